"""Add keywords to an XMP packet and leave everything else in it as it is. Bytes in, bytes out.

XMP is RDF in XML (ISO 16684-1): the properties of a picture are elements, or attributes, of `rdf:Description`. lxml
keeps comments, processing instructions, prefixes, the order of attributes and white space where it was; an RDF library
would write the same facts in a form of its own.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lxml import etree

from .label_tree import BETWEEN, same_word

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
XMPMETA = "adobe:ns:meta/"
DC, LIGHTROOM, DIGIKAM = (
    "http://purl.org/dc/elements/1.1/",
    "http://ns.adobe.com/lightroom/1.0/",
    "http://www.digikam.org/ns/1.0/",
)
PREFIXES = {"dc": DC, "lr": LIGHTROOM, "digiKam": DIGIKAM}
CONTAINERS = tuple(f"{{{RDF}}}{kind}" for kind in ("Bag", "Seq", "Alt"))
ITEM, DESCRIPTION, ABOUT = (f"{{{RDF}}}{name}" for name in ("li", "Description", "about"))
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
IN_TERM = "-"  # stands in a term for the sign that would part it in two
EMPTY = f"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="{XMPMETA}">
 <rdf:RDF xmlns:rdf="{RDF}">
  <rdf:Description rdf:about=""/>
 </rdf:RDF>
</x:xmpmeta>
""".encode()


@dataclass(frozen=True)
class Keywords:
    """What to add: plain `words`, and the `paths` of these words in a tree, a word of no tree as a path of one term.

    `tree` says whether a tree was given: the list of paths is then begun where a packet has none.
    """

    words: Sequence[str]
    paths: Sequence[tuple[str, ...]]
    tree: bool


@dataclass(frozen=True)
class _Property:
    """A list of keywords in XMP: its name, kind of container, and what stands between the terms of a path, if any."""

    namespace: str
    name: str
    container: str
    between: str | None

    @property
    def tag(self) -> str:
        return f"{{{self.namespace}}}{self.name}"

    def text(self, path: Sequence[str]) -> str:
        """Return the item of a path."""
        if self.between is None:
            return " ".join(path)
        return self.between.join(term.replace(self.between, IN_TERM) for term in path)

    def terms(self, text: str) -> tuple[str, ...]:
        """Return the terms of an item, as they are compared."""
        return tuple(map(same_word, text.split(self.between) if self.between else [text]))

    @property
    def title(self) -> str:
        prefix = next(prefix for prefix, namespace in PREFIXES.items() if namespace == self.namespace)
        return f"{prefix}:{self.name}"


SUBJECT = _Property(DC, "subject", "Bag", None)
HIERARCHY = _Property(LIGHTROOM, "hierarchicalSubject", "Bag", BETWEEN)
TAGS_LIST = _Property(DIGIKAM, "TagsList", "Seq", "/")


def add_keywords(data: bytes | None, keywords: Keywords) -> bytes | None:
    """Return an XMP packet with the keywords added, in UTF-8; None where it has them all.

    `data` is the packet, or None for a new one. `dc:subject` gets the words. `lr:hierarchicalSubject` gets the paths
    where there is a tree or such a list, and `digiKam:TagsList` where there is one: programs that know these lists read
    them in place of dc:subject. A word that is there in any case, also as the end of a path, is not added again. In a
    term of a path, `-` stands for the sign between terms (`|`, `/`).

    Raises ValueError, which says what is wrong, for what is no XMP, and lxml.etree.XMLSyntaxError for what is no XML.
    """
    data = EMPTY if data is None else data
    parser = etree.XMLParser(resolve_entities=False, no_network=True, strip_cdata=False)
    document = etree.parse(io.BytesIO(data), parser)
    information: Any = document.docinfo  # its types lack the doctype
    if information.doctype:  # entities of its own could hide anything
        raise ValueError("it has a DOCTYPE, which XMP has not")
    root = document.getroot()
    rdf = root if root.tag == f"{{{RDF}}}RDF" else root.find(f"{{{RDF}}}RDF")
    if rdf is None:
        raise ValueError(f"it is no XMP: expected rdf:RDF in it, found {etree.QName(root).localname}")
    added = _add(rdf, SUBJECT, [(word,) for word in keywords.words])
    for listed in (HIERARCHY, TAGS_LIST):
        if (listed is HIERARCHY and keywords.tree) or _found(rdf, listed) is not None:
            added += _add(rdf, listed, keywords.paths)
    if not added:
        return None
    declared = data.removeprefix(b"\xef\xbb\xbf").startswith(b"<?xml ")
    return etree.tostring(document, encoding="UTF-8", xml_declaration=declared) + b"\n"


def _add(rdf: etree._Element, listed: _Property, paths: Sequence[tuple[str, ...]]) -> int:
    """Add the paths that a list lacks, and return their number; a path of one term also counts as the end of one."""
    own = _found(rdf, listed)
    present = [listed.terms(text) for text in _texts(own, listed)] if own is not None else []
    known = set(present) | {terms[-1:] for terms in present}
    new: dict[tuple[str, ...], str] = {}
    for path in paths:  # compared as they will be read again
        text = listed.text(path)
        if (terms := listed.terms(text)) not in known:
            new.setdefault(terms, text)
    if new:
        container = _container(rdf, listed)
        for text in new.values():
            item = etree.Element(ITEM)
            item.text = text
            _append(container, item)
    return len(new)


def _found(rdf: etree._Element, listed: _Property) -> etree._Element | None:
    """Return the element of a property, or the description that has it as an attribute, or None."""
    for description in rdf.iterchildren(DESCRIPTION):
        if (element := description.find(listed.tag)) is not None:
            return element
        if listed.tag in description.attrib:
            return description
    return None


def _texts(own: etree._Element, listed: _Property) -> Iterator[str]:
    """Yield the keywords of a property. Raises ValueError where it is neither a list nor a plain text."""
    if own.tag == DESCRIPTION:
        yield str(own.attrib[listed.tag])
        return
    if set(own.attrib) - {LANGUAGE}:  # rdf:resource, rdf:parseType: its value is a link or a structure
        raise ValueError(f"its {listed.title} is no list of keywords")
    elements = [child for child in own if isinstance(child.tag, str)]
    text = "".join([own.text or "", *(child.tail or "" for child in own)]).strip()  # around comments too
    if not elements:
        if text:
            yield text
        return
    if len(elements) > 1 or elements[0].tag not in CONTAINERS or text:
        raise ValueError(f"its {listed.title} is no list of keywords")
    yield from (item.text for item in elements[0].iterchildren(ITEM) if item.text)


def _container(rdf: etree._Element, listed: _Property) -> etree._Element:
    """Return the list of a property; make it where there is none, or a plain text, which becomes its first item."""
    own = _found(rdf, listed)
    if own is not None and own.tag != DESCRIPTION:
        for child in own:
            if child.tag in CONTAINERS:
                return child
    words = [] if own is None else list(_texts(own, listed))
    if own is None or own.tag == DESCRIPTION:
        description = own if own is not None else rdf.find(DESCRIPTION)
        if description is None:
            description = etree.Element(DESCRIPTION, {ABOUT: ""})
            _append(rdf, description)
        if listed.tag in description.attrib:
            del description.attrib[listed.tag]
        prefix = listed.title.partition(":")[0]
        own = etree.Element(listed.tag, nsmap={prefix: listed.namespace})
        _append(description, own)
    for child in own:
        child.tail = None
    own.text = None
    container = etree.Element(f"{{{RDF}}}{listed.container}")
    _append(own, container)
    for word in words:
        item = etree.Element(ITEM)
        item.text = word
        _append(container, item)
    return container


def _append(parent: etree._Element, child: etree._Element) -> None:
    """Append a child, indented as its siblings are, or one blank deeper than its parent."""
    if len(parent):
        child.tail = parent[-1].tail
        parent[-1].tail = parent.text
    else:
        depth = len(list(parent.iterancestors()))
        child.tail = "\n" + " " * depth
        parent.text = (parent.text or "").rstrip() + child.tail + " "
    parent.append(child)
