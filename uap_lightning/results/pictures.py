"""What the pages share: their templates, and pictures that lie in the page itself."""

import base64
import io

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from PIL import Image


def template(name: str) -> Template:
    """A template of this folder; what it is filled with is escaped."""
    environment = Environment(
        loader=PackageLoader("uap_lightning", "results"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(name)


def data_uri(image: Image.Image) -> str:
    """An image as a data URI, in a twentieth of the bytes of its PNG."""
    content = io.BytesIO()
    image.save(content, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
