"use strict";

// Sorting: numbers by data-value, largest first; text alphabetically; empty cells always last.
function sortBy(table, column, direction) {
  const body = table.tBodies[0];
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

for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const numeric = [...table.tBodies[0].rows].some((row) => row.cells[column].dataset.value !== undefined);
      const first = numeric ? "descending" : "ascending";
      const other = numeric ? "ascending" : "descending";
      const direction = heading.getAttribute("aria-sort") === first ? other : first;
      for (const each of headings) each.setAttribute("aria-sort", each === heading ? direction : "none");
      sortBy(table, column, direction);
    });
  });
}

// The classes of one run, filtered by name and kind; the chosen order of columns is kept.
const runs = JSON.parse(document.getElementById("per-class").textContent);
const runChoice = document.getElementById("class-run");
const search = document.getElementById("class-search");
const kindChoice = document.getElementById("class-kind");
const classTable = document.getElementById("class-table");

function cell(text, value) {
  const element = document.createElement("td");
  element.textContent = text;
  if (value !== undefined && value !== null) element.dataset.value = value;
  return element;
}

function showClasses() {
  const run = runs[Number(runChoice.value)];
  if (!run) return;
  const wanted = search.value.trim().toLowerCase();
  const kept = run.classes.filter(
    (each) => each.name.toLowerCase().includes(wanted) && (kindChoice.value === "all" || each.kind === kindChoice.value),
  );
  classTable.tBodies[0].replaceChildren(...kept.map((each) => {
    const row = document.createElement("tr");
    const percent = (value) => (value === null ? "-" : value.toFixed(1));
    const precision = cell(percent(each.ap), each.ap);
    if (each.ap !== null) {
      const bar = document.createElement("span");
      bar.className = "bar";
      bar.style.width = `${each.ap / 20}rem`;
      precision.prepend(bar);
    }
    row.append(cell(each.name), cell(each.kind), cell(each.positives, each.positives), cell(each.negatives, each.negatives),
      precision, cell(percent(each.floor), each.floor));
    return row;
  }));
  const headings = [...classTable.tHead.rows[0].cells];
  const sorted = headings.findIndex((heading) => heading.getAttribute("aria-sort") !== "none");
  if (sorted >= 0) sortBy(classTable, sorted, headings[sorted].getAttribute("aria-sort"));
  document.getElementById("class-count").textContent = `${kept.length} of ${run.classes.length} classes`;
}
for (const control of [runChoice, kindChoice]) control.addEventListener("change", showClasses);
search.addEventListener("input", showClasses);
showClasses();

// A label's button shows where the label comes from; pressing it again shows the photograph.
for (const example of document.querySelectorAll(".example")) {
  const picture = example.querySelector(".picture");
  const overlay = example.querySelector(".overlay");
  const labels = [...example.querySelectorAll(".label")];
  for (const label of labels) {
    label.addEventListener("click", () => {
      const shown = label.getAttribute("aria-pressed") !== "true";
      for (const each of labels) each.setAttribute("aria-pressed", String(each === label && shown));
      picture.classList.toggle("covered", shown);
      overlay.hidden = !shown;
      if (shown) overlay.src = label.dataset.overlay;
    });
  }
}
