"use strict";
(() => {
  const table = document.getElementById("answers");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const tools = document.getElementById("tools");
  const [search, asked, verdict] = ["search", "asked", "verdict"].map((id) => document.getElementById(id));
  const count = document.getElementById("count");
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = texts.get(row);
      const fits = words.every((word) => text.includes(word))
        && (!asked.value || row.dataset.asked === asked.value)
        && (!verdict.value || row.dataset.verdict === verdict.value);
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    count.textContent = `${shown} of ${rows.length}`;
  };

  const value = (row, column) => {
    const cell = row.cells[column];
    return "sort" in cell.dataset ? Number(cell.dataset.sort) : cell.textContent.trim();
  };
  const compare = (one, other) =>
    typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other));

  const sort = (head, heads) => {
    const numeric = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    const down = before ? before === "ascending" : numeric;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keys = new Map(rows.map((row) => [row, value(row, head.cellIndex)]));
    rows.sort((one, other) => (down ? -1 : 1) * compare(keys.get(one), keys.get(other)));
    const sorted = document.createDocumentFragment();
    for (const row of rows) sorted.append(row);
    body.append(sorted);
  };

  const heads = Array.from(table.tHead.rows[0].cells);
  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => sort(head, heads));
  }
  for (const control of [search, asked, verdict]) control.addEventListener("input", show);
  tools.hidden = false;
  show();
})();
