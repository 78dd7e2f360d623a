"""Sidecars: keywords join what is there, nothing else changes, and a sidecar that cannot be written is said."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from c3.common.errors import C3Error
from c3.predict.label_tree import read_label_tree
from c3.predict.sidecars import Sidecars
from c3.predict.xmp_keywords import Keywords, add_keywords

RDF, DC, LR = (
    "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}",
    "{http://purl.org/dc/elements/1.1/}",
    "{http://ns.adobe.com/lightroom/1.0/}",
)
DIGIKAM = "{http://www.digikam.org/ns/1.0/}"
HEAD = '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
NAMES = 'xmlns:dc="http://purl.org/dc/elements/1.1/"'

# As Lightroom, digiKam and darktable write them: develop settings, an embedded look, faces, an edit history.
LIGHTROOM = f"""<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0">
 {HEAD}
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    {NAMES}
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
   xmp:Rating="4"
   xmp:CreatorTool="a &lt; b &amp; &quot;c&quot;"
   crs:Exposure2012="+0.35">
   <!-- a note of the user -->
   <dc:subject>
    <rdf:Bag>
     <rdf:li>Dog</rdf:li>
     <rdf:li>Été</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <lr:hierarchicalSubject>
    <rdf:Bag>
     <rdf:li>family|Dog</rdf:li>
    </rdf:Bag>
   </lr:hierarchicalSubject>
   <dc:title>
    <rdf:Alt>
     <rdf:li xml:lang="x-default">On the beach</rdf:li>
    </rdf:Alt>
   </dc:title>
   <crs:Look>
    <rdf:Description
     crs:Name="Adobe Color"
     crs:Amount="1">
    <crs:Parameters>
     <rdf:Description crs:Version="15.0">
      <crs:ToneCurvePV2012>
       <rdf:Seq>
        <rdf:li>0, 0</rdf:li>
        <rdf:li>255, 255</rdf:li>
       </rdf:Seq>
      </crs:ToneCurvePV2012>
     </rdf:Description>
    </crs:Parameters>
    </rdf:Description>
   </crs:Look>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>"""
DIGIKAMS = f"""<?xml version="1.0" encoding="UTF-8"?>
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 {HEAD}
  <rdf:Description rdf:about=""
    xmlns:digiKam="http://www.digikam.org/ns/1.0/"
    xmlns:MP="http://ns.microsoft.com/photo/1.2/"
    xmlns:MPRI="http://ns.microsoft.com/photo/1.2/t/RegionInfo#"
    xmlns:MPReg="http://ns.microsoft.com/photo/1.2/t/Region#"
    digiKam:PickLabel="2">
   <digiKam:TagsList>
    <rdf:Seq>
     <rdf:li>People/Ada</rdf:li>
    </rdf:Seq>
   </digiKam:TagsList>
   <MP:RegionInfo rdf:parseType="Resource">
    <MPRI:Regions>
     <rdf:Bag>
      <rdf:li
       MPReg:Rectangle="0.1, 0.2, 0.3, 0.4"
       MPReg:PersonDisplayName="Ada"/>
     </rdf:Bag>
    </MPRI:Regions>
   </MP:RegionInfo>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""
DARKTABLE = f"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 {HEAD}
  <rdf:Description rdf:about=""
    xmlns:darktable="http://darktable.sf.net/"
   darktable:history_end="1">
   <darktable:history>
    <rdf:Seq>
     <rdf:li
      darktable:operation="exposure"
      darktable:params="00006041000048c2"
      darktable:multi_name=""/>
    </rdf:Seq>
   </darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>"""
FOREIGN = {"lightroom": LIGHTROOM, "digikam": DIGIKAMS, "darktable": DARKTABLE}


def listed(packet: bytes, tag: str) -> list[str | None]:
    return [item.text for item in ElementTree.fromstring(packet).findall(f".//{tag}/*/{RDF}li")]


def added(packet: bytes | str | None, *words: str, tree: bool = False) -> bytes | None:
    paths = [("animal", word) if tree else (word,) for word in words]
    return add_keywords(packet.encode() if isinstance(packet, str) else packet, Keywords(words, paths, tree))


def without_new(packet: bytes, words: set[str]) -> str:
    """The packet in canonical form, without the items of these words and without lists that are empty then."""
    root = ElementTree.fromstring(packet, ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True)))
    for _ in range(3):  # items, their container, the property
        for parent in root.iter():
            for child in list(parent):
                inside = {item.text for item in child.iter(f"{RDF}li")}
                if child.tag in (f"{RDF}li", f"{DC}subject", f"{LR}hierarchicalSubject") and inside and words >= inside:
                    parent.remove(child)
    out = io.StringIO()
    ElementTree.canonicalize(ElementTree.tostring(root), out=out, with_comments=True, strip_text=True)
    return out.getvalue()


def test_a_new_sidecar_has_the_words_and_their_places() -> None:
    packet = added(None, "dog", "Été", tree=True)
    assert packet is not None
    assert listed(packet, f"{DC}subject") == ["dog", "Été"]
    assert listed(packet, f"{LR}hierarchicalSubject") == ["animal|dog", "animal|Été"]
    plain = added(None, "dog")
    assert plain is not None and b"hierarchicalSubject" not in plain


@pytest.mark.parametrize("program", FOREIGN)
def test_all_else_in_a_sidecar_stays(program: str) -> None:
    before = FOREIGN[program]
    after = added(before, "dog", "sea & sky")
    assert after is not None and b"sea &amp; sky" in after
    assert without_new(after, {"dog", "sea & sky"}) == without_new(before.encode(), set())
    for line in before.splitlines():  # indentation too, but for what has no meaning: quotes and breaks in a tag
        if line.strip().startswith(("<rdf:li>", "<!--", "<rdf:Seq>", "<dc:", "<crs:")):
            assert line in after.decode().splitlines()


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
@pytest.mark.parametrize("program", FOREIGN)
def test_exiftool_reads_the_same_fields_as_before(program: str, tmp_path: Path) -> None:
    def fields(packet: bytes) -> dict[str, object]:
        (tmp_path / "a.xmp").write_bytes(packet)
        command = ["exiftool", "-j", "-a", "-G1", "-struct", tmp_path / "a.xmp"]
        shown = subprocess.run(command, capture_output=True, check=True)
        (found,) = json.loads(shown.stdout)
        return {name: value for name, value in found.items() if name.startswith("XMP") or "Warning" in name}

    before, after = fields(FOREIGN[program].encode()), fields(added(FOREIGN[program], "dog", "sea", tree=True) or b"")
    words = {
        "lightroom": (["Dog", "Été", "sea"], ["family|Dog", "animal|dog", "animal|sea"]),
        "digikam": (["dog", "sea"], ["animal|dog", "animal|sea"]),
        "darktable": (["dog", "sea"], ["animal|dog", "animal|sea"]),
    }[program]
    assert (after["XMP-dc:Subject"], after["XMP-lr:HierarchicalSubject"]) == words
    own = {"XMP-dc:Subject", "XMP-lr:HierarchicalSubject", "XMP-digiKam:TagsList"}
    assert {name: after[name] for name in after if name not in own} == {
        name: before[name] for name in before if name not in own
    }


def test_words_that_are_there_are_not_added_again() -> None:
    assert added(LIGHTROOM, "dog") is None  # in another case
    decomposed = added(LIGHTROOM, "E\u0301te\u0301")
    assert decomposed is not None and listed(decomposed, f"{DC}subject") == ["Dog", "Été"]
    once = added(LIGHTROOM, "dog", "sea")
    assert once is not None
    assert listed(once, f"{DC}subject") == ["Dog", "Été", "sea"]
    assert listed(once, f"{LR}hierarchicalSubject") == ["family|Dog", "sea"]  # a list that programs read alone
    assert added(once, "dog", "sea") is None
    digikam = added(DIGIKAMS, "ada", "sea", tree=False)
    assert digikam is not None
    assert listed(digikam, f"{DIGIKAM}TagsList") == ["People/Ada", "sea"]
    assert b"hierarchicalSubject" not in digikam


@pytest.mark.parametrize("program", FOREIGN)
def test_the_sign_between_terms_parts_no_term(program: str) -> None:
    words = Keywords(["con|tent", "Con|Tent", "tcp/ip"], [("con|tent",), ("Con|Tent",), ("a/b", "tcp/ip")], tree=True)
    once = add_keywords(FOREIGN[program].encode(), words)
    assert once is not None
    assert listed(once, f"{DC}subject")[-2:] == ["con|tent", "tcp/ip"]
    assert listed(once, f"{LR}hierarchicalSubject")[-2:] == ["con-tent", "a/b|tcp/ip"]
    if program == "digikam":
        assert listed(once, f"{DIGIKAM}TagsList") == ["People/Ada", "con|tent", "a-b/tcp-ip"]
    assert add_keywords(once, words) is None


@pytest.mark.parametrize(
    ("properties", "kept"),
    [
        pytest.param(f'<rdf:Description {NAMES} dc:subject="cat"/>', ["cat"], id="attribute"),
        pytest.param(f"<rdf:Description {NAMES}><dc:subject> cat </dc:subject></rdf:Description>", ["cat"], id="text"),
        pytest.param(f"<rdf:Description {NAMES}><dc:subject><!-- mine -->cat</dc:subject></rdf:Description>", ["cat"],
                     id="text and comment"),
        pytest.param(f"<rdf:Description {NAMES}><dc:subject/></rdf:Description>", [], id="empty"),
        pytest.param(f"<rdf:Description {NAMES}><dc:subject><rdf:Seq><rdf:li>cat</rdf:li></rdf:Seq></dc:subject>"
                     "</rdf:Description>", ["cat"], id="sequence"),
        pytest.param(f"<rdf:Description/><rdf:Description {NAMES}><dc:subject><!-- mine --><rdf:Bag><rdf:li>cat"
                     "</rdf:li></rdf:Bag></dc:subject></rdf:Description>", ["cat"], id="second description"),
        pytest.param("", [], id="no description"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_form_of_a_list_is_read(properties: str, kept: list[str], code: str) -> None:
    packet = add_keywords(f"{HEAD}{properties}</rdf:RDF>".encode(code), Keywords(["dog"], [("dog",)], False))
    assert packet is not None
    assert listed(packet, f"{DC}subject") == [*kept, "dog"]
    assert b"cat" not in packet.replace(b"<rdf:li>cat</rdf:li>", b"")
    assert packet.count(b"mine") == properties.count("mine")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(b"never opened")
    return tmp_path / "a.jpg"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(LIGHTROOM[:-20], "it is not well-formed XML", id="cut"),
        pytest.param("", "it is not well-formed XML", id="empty"),
        pytest.param("<html/>", "expected rdf:RDF in it, found html", id="other"),
        pytest.param(f'<!DOCTYPE r [<!ENTITY a "b">]>{HEAD}</rdf:RDF>', "a DOCTYPE", id="entities"),
        pytest.param(f'{HEAD}<rdf:Description {NAMES}><dc:subject rdf:parseType="Resource"><dc:a/></dc:subject>'
                     "</rdf:Description></rdf:RDF>", "its dc:subject is no list of keywords", id="structure"),
        pytest.param(f'{HEAD}<rdf:Description {NAMES}><dc:subject rdf:parseType="Resource"><rdf:Bag/></dc:subject>'
                     "</rdf:Description></rdf:RDF>", "its dc:subject is no list of keywords", id="bag as property"),
        pytest.param(f'{HEAD}<rdf:Description {NAMES}><dc:subject rdf:resource="http://x"/></rdf:Description>'
                     "</rdf:RDF>", "its dc:subject is no list of keywords", id="resource"),
    ],
)  # fmt: skip
def test_a_sidecar_that_is_not_xmp_stays_as_it_is(picture: Path, content: str, said: str) -> None:
    sidecar = picture.with_name("a.jpg.xmp")
    sidecar.write_text(content, encoding="utf-8")
    sidecars = Sidecars()
    with pytest.raises(C3Error, match=said) as caught:
        sidecars.add(picture, ["dog"])
    assert "\n" not in str(caught.value) and str(sidecar) in str(caught.value)
    assert sidecar.read_text(encoding="utf-8") == content
    assert sidecars.summary() == "sidecars: 1 not written"
    assert sorted(path.name for path in picture.parent.iterdir()) == ["a.jpg", "a.jpg.xmp"]


def test_a_sidecar_that_may_not_be_written_stays_as_it_is(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sidecar = picture.with_name("a.jpg.xmp")
    sidecar.write_text(LIGHTROOM, encoding="utf-8")
    sidecar.chmod(0o444)
    Sidecars().add(picture, ["dog"])  # has it
    with pytest.raises(C3Error) as caught:
        Sidecars().add(picture, ["sea"])
    assert str(caught.value) == f"{sidecar} is read-only and stays as it is; allow it with: chmod u+w {sidecar}"
    with monkeypatch.context() as patch, pytest.raises(C3Error, match="it belongs to another user") as caught:
        patch.setattr(os, "geteuid", lambda: sidecar.stat().st_uid + 1)
        Sidecars().add(picture, ["sea"])
    assert "chmod" not in str(caught.value)
    assert sidecar.read_text(encoding="utf-8") == LIGHTROOM
    sidecar.chmod(0o640)
    Sidecars().add(picture, ["sea"])
    assert sidecar.stat().st_mode & 0o777 == 0o640
    sidecar.unlink()
    sidecar.mkdir()
    with pytest.raises(C3Error, match="cannot be read: Is a directory"):
        Sidecars().add(picture, ["sea"])
    with pytest.raises(C3Error, match="cannot be written"):
        Sidecars().add(picture.parent / "gone/a.jpg", ["sea"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_said(picture: Path) -> None:
    picture.parent.chmod(0o555)
    try:
        with pytest.raises(C3Error, match="cannot be written"):
            Sidecars().add(picture, ["sea"])
    finally:
        picture.parent.chmod(0o755)


@pytest.mark.parametrize("name", ["full", "stem"])
@pytest.mark.parametrize(
    ("there", "full", "stem"),
    [
        ((), "a.jpg.xmp", "a.xmp"),
        (("a.xmp",), "a.xmp", "a.xmp"),
        (("a.jpg.xmp",), "a.jpg.xmp", "a.jpg.xmp"),
        (("a.XMP",), "a.XMP", "a.XMP"),
        (("a.jpg.xmp", "a.xmp"), "a.jpg.xmp", "a.xmp"),
    ],
    ids="+".join,
)
def test_an_existing_sidecar_of_either_name_is_taken(
    picture: Path, name: str, there: tuple[str, ...], full: str, stem: str
) -> None:
    for sidecar in there:
        (picture.parent / sidecar).write_text(DARKTABLE, encoding="utf-8")
    Sidecars(name).add(picture, ["dog"])
    with_dog = [path.name for path in picture.parent.glob("*.[xX]*") if b">dog<" in path.read_bytes()]
    assert with_dog == [full if name == "full" else stem]
    assert picture.read_bytes() == b"never opened"


def test_a_link_stays_a_link(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere/a.xmp", picture.with_name("a.jpg.xmp")
    real.write_text(DARKTABLE, encoding="utf-8")
    link.symlink_to(real)
    Sidecars().add(picture, ["dog"])
    assert link.is_symlink() and listed(real.read_bytes(), f"{DC}subject") == ["dog"]
    link.unlink()
    link.symlink_to(tmp_path / "gone/a.xmp")
    with pytest.raises(
        C3Error, match=rf"{link} cannot be written as .*gone/a\.xmp, to which it is a link: No such file"
    ):
        Sidecars().add(picture, ["dog"])
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(C3Error, match="symbolic links"):
        Sidecars().add(picture, ["dog"])


def test_a_second_run_leaves_the_file_alone_and_removes_nothing(picture: Path) -> None:
    sidecar, sidecars = picture.with_name("a.jpg.xmp"), Sidecars()
    sidecars.add(picture, ["dog", "sea"])
    first = sidecar.stat()
    sidecars.add(picture, ["sea", "dog"])
    sidecars.add(picture, [])
    assert (sidecar.stat().st_ino, sidecar.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    sidecars.add(picture, ["sky"])
    assert listed(sidecar.read_bytes(), f"{DC}subject") == ["dog", "sea", "sky"]
    assert sidecars.summary() == "sidecars: 2 written, 2 had nothing to add"


def test_a_name_that_is_too_long_for_a_sidecar_is_named(tmp_path: Path) -> None:
    with pytest.raises(C3Error, match=r"a\.jpg\.xmp cannot be written: File name too long$"):
        Sidecars().add(tmp_path / f"{'a' * 251}.jpg", ["dog"])


def test_a_label_tree_places_labels(picture: Path, tmp_path: Path) -> None:
    lines = tmp_path / "tree.txt"
    lines.write_text("# mine\n\nanimal | Dog\npet|dog\npet|dog\nsky\n", encoding="utf-8")
    tree = read_label_tree(lines)
    assert tree == {"dog": (("animal", "Dog"), ("pet", "dog")), "sky": (("sky",),)}
    sidecars = Sidecars(tree=tree)
    sidecars.add(picture, ["sea"])
    assert sidecars.summary().endswith("; the label tree has none of the labels")
    sidecars.add(picture, ["dog"])
    packet = picture.with_name("a.jpg.xmp").read_bytes()
    assert listed(packet, f"{LR}hierarchicalSubject") == ["sea", "animal|Dog", "pet|dog"]
    assert listed(packet, f"{DC}subject") == ["sea", "dog"]
    assert sidecars.summary() == "sidecars: 2 written"
    for content, said in (
        ("animal||dog", r"line 1: expected terms such as animal\|dog"),
        ("# a\n", "it is empty"),
        ("animal\n\tdog\n", r"expected lines such as animal\|dog, .* parted by tabs"),  # keywords of Lightroom
        ("animal|dog\nx\x01|sky", r"tree\.txt line 2: 'x\\x01\|sky' has a control character"),
        ("a\ufffe", "line 1: .* control character"),
        (None, r"^label tree .*tree\.txt cannot be read"),
    ):
        lines.unlink(missing_ok=True)
        if content is not None:
            lines.write_text(content, encoding="utf-8")
        with pytest.raises(C3Error, match=said):
            read_label_tree(lines)


def test_labels_that_no_xmp_file_can_hold_are_refused() -> None:
    Sidecars().require_words(["dog", "a\tb", "\U0001f415"])
    with pytest.raises(C3Error, match=r"control character, .*: 'd\\x01g', '\\x7f\\x08'$"):
        Sidecars().require_words(["dog", "d\x01g", "\x7f\x08"])
