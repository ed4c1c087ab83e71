// Finds pages that have all of the words, those with a word in the title first.
const field = document.getElementById("q"), list = document.getElementById("found"), root = document.body.dataset.root;
function search() {
  const words = field.value.toLowerCase().split(/\s+/).filter(w => w.length > 1);
  list.replaceChildren();
  if (words.length === 0) return;
  const hits = [];
  for (const p of pages) {
    const text = p.Text.toLowerCase(), title = p.Title.toLowerCase();
    if (words.every(w => text.includes(w) || title.includes(w)))
      hits.push({p, weight: words.filter(w => title.includes(w)).length, at: Math.max(0, text.indexOf(words[0]) - 30)});
  }
  hits.sort((a, b) => b.weight - a.weight);
  for (const {p, at} of hits.slice(0, 12)) {
    const item = document.createElement("li"), link = document.createElement("a"), part = document.createElement("small");
    link.href = root + p.Page;
    link.textContent = p.Title;
    part.textContent = "…" + p.Text.slice(at, at + 90) + "…";
    item.append(link, part);
    list.append(item);
  }
  if (hits.length === 0) list.append("no page has all of these words");
}
field.addEventListener("input", search);
document.addEventListener("keydown", e => {
  if (e.key === "/" && document.activeElement !== field) { e.preventDefault(); field.focus(); }
});
