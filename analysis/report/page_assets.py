"""How the page looks, wide and narrow, light and dark, on paper; and the script that sorts its tables and copies its files."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d1d1f; --soft: #5c5c63; --line: #dcdce0; --paper: #ffffff; --card: #f5f6f8; --accent: #0072b2; --warn: #b34700; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececf0; --soft: #a6a6ae; --line: #3a3a40; --paper: #17181b; --card: #212327; --accent: #6cb8e6; --warn: #ffa45c; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 56rem; margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 2rem) 4rem; }
h1 { font-size: 1.35rem; line-height: 1.25; margin: 0.5rem 0 1rem; overflow-wrap: anywhere; }
h1 small { display: block; font-weight: 400; font-size: 0.95rem; color: var(--soft); }
h2 { font-size: 1.3rem; margin: 3rem 0 0.75rem; padding-top: 0.75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; line-height: 1.35; margin: 0 0 0.6rem; overflow-wrap: anywhere; }
p { margin: 0.6rem 0; overflow-wrap: anywhere; }
a { color: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: 0.25rem 1.1rem; font-size: 0.92rem; margin: 1rem 0; }
.answer { background: var(--card); border-left: 5px solid var(--accent); border-radius: 0 6px 6px 0; padding: 0.9rem 1.2rem; font-size: 1.15rem; line-height: 1.5; }
.answer p { margin: 0.35rem 0; }
.note { color: var(--soft); font-size: 0.92rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: 0.75rem 1.25rem; margin: 1.25rem 0; }
.facts dt { color: var(--soft); font-size: 0.85rem; }
.facts dd { margin: 0; font-weight: 600; font-size: 1.15rem; overflow-wrap: anywhere; }
.facts small { display: block; font-weight: 400; font-size: 0.82rem; line-height: 1.35; color: var(--soft); }
ul { padding-left: 1.2rem; } li { margin: 0.3rem 0; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0 2.25rem; }
figure img { display: block; max-width: max(100%, 30rem); height: auto; background: #fff; border-radius: 6px; }
figure .scroll { margin: 0; }
figcaption { color: var(--soft); font-size: 0.88rem; margin-top: 0.6rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 1rem 0; }
.scroll:focus-visible, pre:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.32rem 0.7rem 0.32rem 0; white-space: nowrap; border-bottom: 1px solid var(--line); vertical-align: baseline; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 600; position: sticky; left: 0; background: var(--paper); }
th.number, td.number { text-align: right; padding-left: 0.7rem; padding-right: 0; }
td.best { font-weight: 700; }
.warn { color: var(--warn); }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; text-align: inherit; }
th button::after { content: "\\2195"; color: var(--soft); padding-left: 0.25em; font-size: 0.8em; }
th[aria-sort=ascending] button::after { content: "\\2191"; color: var(--accent); }
th[aria-sort=descending] button::after { content: "\\2193"; color: var(--accent); }
button:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
details { border: 1px solid var(--line); border-radius: 6px; padding: 0.5rem 0.9rem; margin: 0.6rem 0; }
summary { cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
pre { background: var(--card); border-radius: 6px; padding: 0.8rem 1rem; overflow-x: auto; font: 0.85rem/1.45 ui-monospace, "Liberation Mono", Menlo, Consolas, monospace; }
.copy { font: inherit; font-size: 0.85rem; margin-top: 0.6rem; padding: 0.2rem 0.8rem; border: 1px solid var(--line); border-radius: 6px; background: var(--card); color: var(--ink); cursor: pointer; }
@page { margin: 14mm; }
@page wide { size: landscape; margin: 10mm; }
@media print {
  #pairs { page: wide; } #pairs table, #coefficients-table, #self-pairs-table { font-size: 6pt; }
  figure img { max-width: 100%; }
  :root { --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --card: #f4f4f4; --accent: #0072b2; --warn: #8a3600; }
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; }
  nav, .copy { display: none; } figure, tr, .answer { break-inside: avoid; } h2, h3, summary { break-after: avoid; }
  .scroll { overflow: visible; } table { font-size: 7.5pt; } th, td { white-space: normal; padding-right: 0.3rem; } th button::after { content: ""; }
  details { border: 0; padding: 0; } details::details-content { content-visibility: visible; block-size: auto; }
  pre { white-space: pre-wrap; }
}
"""

SCRIPT = """
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
"""
