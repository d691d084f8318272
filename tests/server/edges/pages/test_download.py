"""A study to take home: a ZIP archive with a DICOMDIR, of what one may see, and from a share only where that was allowed."""

import io
import zipfile
from urllib.parse import urlsplit

import pydicom
from peers.visitor import Pages, Visitor

from server.access import shares
from server.access.shares import Wish


def first_study(visitor: Visitor) -> str:
    visitor.get("/images")
    return str(visitor.tree.xpath("//h3/a/@href")[0])


def test_a_patient_takes_her_images_home(town: Pages) -> None:
    visitor = town.signed_in("patient")
    answer = visitor.http.get(f"{first_study(visitor)}/download")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    assert town.site.studies["A"][0] not in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        directory = pydicom.dcmread(io.BytesIO(archive.read("DICOMDIR")))
        images = [name for name in archive.namelist() if name.startswith("DICOM/")]
        assert images
        assert {str(pydicom.dcmread(io.BytesIO(archive.read(name))).PatientName) for name in images} == {"Alba^Anna"}
        assert str(directory.file_meta.MediaStorageSOPClassUID.name) == "Media Storage Directory Storage"


def test_a_share_is_downloaded_only_where_that_was_allowed(town: Pages) -> None:
    site = town.site
    for allowed in (False, True):
        with site.node.database.write() as connection:
            wish = Wish(site.patients["A"], site.studies["A"][:1], 30, download=allowed)
            share, secret = shares.make(connection, site.node.installation.cursor_key, wish, site.people["patient"].id)
        doctor, path = town.visitor(), urlsplit(site.node.sharing.link(share, secret)).path
        doctor.get(path)
        doctor.press("Open the images", secret=secret)
        doctor.get(f"{path}/images")
        assert ("Download" in doctor.text) is allowed
        doctor.get(f"{path}/view")
        assert ("Save picture" in doctor.text) is allowed
        with site.node.database.read() as connection:
            study = connection.exec_driver_sql(f"SELECT id FROM study WHERE uid = '{site.studies['A'][0]}'").scalar_one()
        assert doctor.http.get(f"{path}/images/{study}/download").status_code == (200 if allowed else 403)
