"""The guard in the form that attack libraries take, one file a library.

They need ``pip install 'uap-lightning[adapters]'``. Which gradient an attack sees: by default the
exact one, of the rectified image where the detector fires and of the image itself elsewhere. It
is blind to the decision. With ``soft_gate=True`` predictions are the same, but the backward pass
takes sigmoid(score) for the gate, so that an attack can learn to evade the detector. A defence is
worth what it keeps under the stronger of the two.
"""
