"""The names of a folder, kept in a file."""

from pathlib import Path

from uap_lightning.jobs.listing import Listing


def test_a_listing_gives_back_every_name_once():
    Path("photos/sub").mkdir(parents=True)
    files = ["photos/a\nb", "photos/b\udcff", "photos/é" + "x" * 200, "photos/sub/a", "photos/z"]
    for name in files:
        Path(name).touch()
    listing = Listing(Path("photos"), Path("names"))
    assert len(listing) == 5
    orders = {tuple(map(str, listing.paths(listing.order(seed)))) for seed in range(6)}
    assert {tuple(sorted(order)) for order in orders} == {tuple(sorted(files))}
    assert len(orders) > 1
    assert [*listing.paths(listing.order(3))] == [*listing.paths(listing.order(3))]
