"use strict";

document.documentElement.classList.add("js");

// Sorting: numbers by data-value, largest first; text alphabetically; empty cells always last.
function sortBy(table, column, direction) {
  const body = table.tBodies[0];
  if (direction === "none") {
    body.append(...[...body.rows].sort((first, second) => first.dataset.place - second.dataset.place));
    return;
  }
  const key = (row) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  const empty = (value) => value === "-" || value === "" || Number.isNaN(value);
  const rows = [...body.rows].sort((first, second) => {
    const [a, b] = [key(first), key(second)];
    if (empty(a) || empty(b)) return empty(a) - empty(b);
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return direction === "ascending" ? order : -order;
  });
  body.append(...rows);
}

// Every row knows its place, so that a third click brings the first order back.
function place(table) {
  [...table.tBodies[0].rows].forEach((row, number) => { row.dataset.place = number; });
}

for (const table of document.querySelectorAll("table.sortable")) {
  place(table);
  const headings = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const numeric = [...table.tBodies[0].rows].some((row) => row.cells[column].dataset.value !== undefined);
      const order = numeric ? ["descending", "ascending", "none"] : ["ascending", "descending", "none"];
      const direction = order[(order.indexOf(heading.getAttribute("aria-sort")) + 1) % 3];
      for (const each of headings) each.setAttribute("aria-sort", each === heading ? direction : "none");
      sortBy(table, column, direction);
    });
  });
}

// The classes of one run, or of two side by side, filtered by name and kind; the chosen order of columns is kept.
const runs = JSON.parse(document.getElementById("per-class").textContent);
const runChoice = document.getElementById("class-run");
const otherChoice = document.getElementById("class-other");
const search = document.getElementById("class-search");
const kindChoice = document.getElementById("class-kind");
const classTable = document.getElementById("class-table");

function cell(value, text) {
  const element = document.createElement("td");
  const known = value !== undefined && value !== null;
  element.textContent = known ? text(value) : "-";
  if (known) element.dataset.value = value;
  return element;
}

const percent = (value) => value.toFixed(1);
const signed = (value) => (value < 0 ? "" : "+") + value.toFixed(1);

function bar(value) {
  const element = cell(value, percent);
  element.className = "bar";
  if (value !== undefined && value !== null) element.style.setProperty("--share", value / 100);
  return element;
}

function named(each) {
  const element = document.createElement("th");
  element.scope = "row";
  const kind = document.createElement("small");
  kind.textContent = each.kind;
  element.append(`${each.name} `, kind);
  return element;
}

function showClasses() {
  const run = runs[Number(runChoice.value)];
  if (!run) return;
  const other = otherChoice.value === "" ? null : runs[Number(otherChoice.value)];
  const others = new Map(other ? other.classes.map((each) => [each.name, each.ap]) : []);
  const wanted = search.value.trim().toLowerCase();
  const kept = run.classes.filter(
    (each) => each.name.toLowerCase().includes(wanted) && (kindChoice.value === "all" || each.kind === kindChoice.value),
  );
  classTable.tBodies[0].replaceChildren(...kept.map((each) => {
    const row = document.createElement("tr");
    const beside = others.get(each.name) ?? null;
    const gain = each.ap === null || beside === null ? null : each.ap - beside;
    const pair = [bar(beside), cell(gain, signed)];
    for (const element of pair) { element.classList.add("other-run"); element.hidden = other === null; }
    row.append(named(each), bar(each.ap), cell(each.gain, signed), ...pair, cell(each.positives, String));
    return row;
  }));
  place(classTable);
  const headings = [...classTable.tHead.rows[0].cells];
  for (const heading of headings) if (heading.className === "other-run") heading.hidden = other === null;
  const sorted = headings.findIndex((heading) => heading.getAttribute("aria-sort") !== "none");
  if (sorted >= 0) sortBy(classTable, sorted, headings[sorted].getAttribute("aria-sort"));
  document.getElementById("class-count").textContent = `${kept.length} of ${run.classes.length} classes`;
}
for (const control of [runChoice, otherChoice, kindChoice]) control.addEventListener("change", showClasses);
search.addEventListener("input", showClasses);

// A label's button shows where the label comes from; pressing it again shows the photograph.
for (const example of document.querySelectorAll(".example")) {
  const picture = example.querySelector(".picture");
  const overlay = example.querySelector(".overlay");
  const labels = [...example.querySelectorAll(".label")];
  const show = (label) => {
    for (const each of labels) each.setAttribute("aria-pressed", String(each === label));
    picture.classList.toggle("covered", label !== null);
    overlay.hidden = label === null;
    if (label) overlay.src = label.dataset.overlay;
  };
  for (const label of labels) {
    label.addEventListener("click", () => show(label.getAttribute("aria-pressed") === "true" ? null : label));
  }
  example.addEventListener("run", (event) => {
    show(null);
    [...example.querySelectorAll(".of-run")].forEach((each, number) => { each.hidden = number !== event.detail; });
  });
}
for (const chosen of document.querySelectorAll(".choose")) {
  chosen.querySelector(".example-run").addEventListener("change", (event) => {
    for (const example of chosen.querySelectorAll(".example")) {
      example.dispatchEvent(new CustomEvent("run", { detail: Number(event.target.value) }));
    }
  });
}

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.nextElementSibling.textContent);
    button.textContent = "Copied";
  });
}
