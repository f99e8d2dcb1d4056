"use strict";
const sortBy = (table, head, column) => {
  const value = row => { const cell = row.cells[column]; return "sort" in cell.dataset ? (cell.dataset.sort === "" ? NaN : Number(cell.dataset.sort)) : cell.textContent; };
  const rows = [...table.tBodies[0].rows], isNumber = typeof value(rows[0]) === "number";
  const before = head.getAttribute("aria-sort");
  const up = before ? before === "descending" : !isNumber;
  const compare = (a, b) => {
    const x = value(a), y = value(b);
    if (!isNumber) return (up ? 1 : -1) * x.localeCompare(y, undefined, {numeric: true});
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
    return up ? x - y : y - x;
  };
  table.tBodies[0].append(...rows.sort(compare));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
};
for (const table of document.querySelectorAll("table.sortable")) {
  if (!table.tBodies[0].rows.length) continue;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sortBy(table, head, column));
    head.replaceChildren(button);
  });
}
for (const block of document.querySelectorAll("pre")) {
  const button = document.createElement("button");
  button.type = "button"; button.className = "copy"; button.textContent = "Copy";
  button.addEventListener("click", async () => {
    const range = document.createRange();
    range.selectNodeContents(block);
    getSelection().removeAllRanges(); getSelection().addRange(range);
    try { await navigator.clipboard.writeText(block.textContent); button.textContent = "Copied"; }
    catch { button.textContent = "Selected: press Ctrl-C"; }
    setTimeout(() => { button.textContent = "Copy"; }, 2500);
  });
  block.before(button);
}
let closed = [];
addEventListener("beforeprint", () => { closed = [...document.querySelectorAll("details:not([open])")]; closed.forEach(d => { d.open = true; }); });
addEventListener("afterprint", () => { closed.forEach(d => { d.open = false; }); });
