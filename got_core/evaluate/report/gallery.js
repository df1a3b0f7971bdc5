'use strict';
// Shows the samples of the page: tiles to filter, and one at a time to click or key through.
// Other people's words become text nodes and nothing else.
const holder = document.getElementById('gallery-data');
const data = holder ? JSON.parse(holder.textContent) : {pictures: [], sections: []};
const SVG = 'http://www.w3.org/2000/svg';
const shown = {planned: true, found: false};

function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (name === 'class') element.className = value;
    else if (name.startsWith('aria-') || name.startsWith('data-')) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((one) => one !== null && one !== undefined));
  return element;
}

function outline(svg, box, color, dashed) {
  for (const [stroke, width] of dashed ? [[color, 2]] : [['#1e1e1e', 4], [color, 2]]) {
    const rect = document.createElementNS(SVG, 'rect');
    const [x1, y1, x2, y2] = box;
    const places = {x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1)};
    for (const [name, value] of Object.entries(places)) rect.setAttribute(name, value);
    rect.setAttribute('fill', 'none');
    rect.setAttribute('stroke', stroke);
    rect.setAttribute('stroke-width', width);
    rect.setAttribute('vector-effect', 'non-scaling-stroke');
    if (dashed) rect.setAttribute('stroke-dasharray', '5 4');
    svg.append(rect);
  }
}

function picture(side, alt, boxes, found) {
  const place = make('div', {class: 'picture ' + (side.verdict || '')});
  if (side.picture === null) {
    place.append(make('div', {class: 'gap'}, side.missing));
    return place;
  }
  const exact = Math.max(...side.size) <= 128 ? 'exact' : '';
  place.append(make('img', {class: exact, alt: alt, src: data.pictures[side.picture]}));
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 1 1');
  svg.setAttribute('preserveAspectRatio', 'none');
  for (const one of boxes || []) outline(svg, one.box, one.color, false);
  for (const one of found || []) if (one.box) outline(svg, one.box, '#fff', true);
  place.append(svg);
  return place;
}

function tag(text, kind) {
  return text ? make('span', {class: 'tag ' + (kind || '')}, text) : null;
}

function verdictOf(side) {
  if (!side) return 'not there';
  if (side.value !== null && side.verdict === '') return side.value.toPrecision(3);
  return side.cause || side.verdict;
}

function select(label, choices, changed) {
  const list = make('select', {'aria-label': label, onchange: () => changed(list.value)});
  list.append(make('option', {value: ''}, label + ': all'));
  for (const one of choices) list.append(make('option', {value: one}, one));
  return list;
}

function values(cases, pick) {
  return [...new Set(cases.flatMap(pick).filter((one) => one))];
}

const last = (one) => one.sides[one.sides.length - 1];

class Gallery {
  constructor(place, section, number) {
    this.section = section;
    this.number = number;
    this.chosen = {};
    this.tiles = make('div', {class: 'tiles'});
    this.count = make('span', {class: 'count'});
    const tools = make('div', {class: 'tools'});
    const causes = (one) => one.sides.map((side) => side && side.cause);
    for (const [name, label, found] of [
      ['task', 'Task', values(section.cases, (one) => [one.task])],
      ['cause', 'Cause', values(section.cases, causes)],
      ['change', 'Changed verdict', values(section.cases, (one) => [one.change])],
    ]) {
      if (found.length) tools.append(select(label, found, (value) => this.filter(name, value)));
    }
    tools.append(this.count);
    place.append(tools, this.tiles);
    this.filter('task', '');
  }

  filter(name, value) {
    this.chosen[name] = value;
    const {task, cause, change} = this.chosen;
    this.cases = this.section.cases.filter((one) =>
      (!task || one.task === task) && (!change || one.change === change) &&
      (!cause || one.sides.some((side) => side && side.cause === cause)));
    this.count.textContent = this.cases.length + ' of ' + this.section.cases.length + ' samples';
    this.tiles.replaceChildren(...this.cases.map((one, k) => this.tile(one, k)));
  }

  tile(one, k) {
    const row = make('span', {class: 'row'});
    if (one.source) row.append(picture(one.source, 'source'));
    for (const side of one.sides) if (side) row.append(picture(side, 'picture', side.boxes));
    const said = make('span', {class: 'said'},
      tag(one.change, one.change), tag(verdictOf(last(one)), last(one) && last(one).verdict), one.prompt);
    return make('button', {class: 'tile', type: 'button', 'data-sample': one.sample,
      onclick: () => viewer.open(this, k)}, row, said);
  }
}

function words(title, text) {
  return [make('dt', {}, title), make('dd', {class: 'text'}, text)];
}

function legend(side) {
  const list = make('ul', {class: 'legend'});
  for (const one of side.boxes) {
    const dot = make('span', {class: 'dot'});
    dot.style.background = one.color;
    list.append(make('li', {}, dot, one.text || '(no phrase)'));
  }
  for (const one of side.found) {
    list.append(make('li', {}, make('span', {class: 'dot dashed'}), 'found: ' + one.text));
  }
  return list;
}

async function copied(input, button) {
  input.select();
  try {
    await navigator.clipboard.writeText(input.value);
  } catch {
    document.execCommand('copy');
  }
  button.textContent = 'copied';
}

function why(side) {
  const input = make('input', {readOnly: true, value: side.why, 'aria-label': 'command'});
  const button = make('button', {type: 'button', onclick: () => copied(input, button)}, 'copy');
  return make('div', {class: 'why'}, input, button);
}

function column(side, label) {
  const head = make('h4', {}, label + ' ', side ? tag(verdictOf(side), side.verdict) : null);
  if (!side) return make('div', {}, head, make('p', {class: 'note'}, 'This model has no such sample.'));
  const list = make('dl', {});
  if (side.chain !== null) list.append(...words('Plan', side.chain || '(empty)'));
  for (const [title, text] of side.texts) list.append(...words(title, text));
  const boxes = shown.planned ? side.boxes : [];
  const heat = side.heat ? make('figure', {}, picture(side.heat, 'changes outside the region', []),
    make('figcaption', {}, 'changes outside the region of the edit')) : '';
  return make('div', {class: 'side'}, head, picture(side, label, boxes, shown.found ? side.found : []),
    legend(side), heat, list, why(side));
}

const signed = (value) => (value > 0 ? '+' : '') + value.toFixed(1) + ' %';

function difference(diff) {
  const place = make('div', {class: 'diff'}, make('h4', {}, 'Plans: the first against the last'));
  if (diff.equal) {
    place.append(make('p', {class: 'note'}, 'The plans are the same.'));
    return place;
  }
  const list = make('ul', {});
  for (const one of diff.removed) list.append(make('li', {}, tag('removed', 'wrong'), one.phrase + ' ' + one.box));
  for (const one of diff.added) list.append(make('li', {}, tag('added', 'right'), one.phrase + ' ' + one.box));
  for (const one of diff.moved) {
    list.append(make('li', {}, tag('moved'), one.phrase + ': ' + one.before + ' to ' + one.after +
      ', IoU ' + one.iou.toFixed(2) + ', right ' + signed(one.shift[0]) + ', down ' + signed(one.shift[1]) +
      ', wider ' + signed(one.size[0]) + ', higher ' + signed(one.size[1])));
  }
  list.append(make('li', {class: 'note'}, diff.kept + ' boxes in the same place'));
  const text = make('div', {class: 'text'});
  for (const one of diff.text) {
    text.append(one.op === 'same' ? one.text : make(one.op === 'added' ? 'ins' : 'del', {}, one.text));
  }
  place.append(list, text);
  return place;
}

class Viewer {
  constructor() {
    this.where = make('span', {class: 'where'});
    this.body = make('div', {class: 'body'});
    const step = (by, text) =>
      make('button', {type: 'button', 'aria-label': text, onclick: () => this.step(by)}, by < 0 ? '←' : '→');
    const bar = make('div', {class: 'steps'}, step(-1, 'previous'), step(1, 'next'), this.where,
      this.toggle('planned', 'planned boxes'), this.toggle('found', 'found boxes'),
      make('button', {type: 'button', 'aria-label': 'close', onclick: () => this.dialog.close()}, '×'));
    this.dialog = make('dialog', {class: 'viewer', 'aria-label': 'sample'}, bar, this.body);
    this.dialog.addEventListener('keydown', (event) => this.key(event));
    this.dialog.addEventListener('close', () => this.back());
    document.body.append(this.dialog);
  }

  toggle(name, text) {
    const box = make('input', {type: 'checkbox', checked: shown[name],
      onchange: () => { shown[name] = box.checked; this.show(); }});
    return make('label', {}, box, ' ' + text);
  }

  open(gallery, number) {
    this.gallery = gallery;
    this.number = number;
    this.show();
    this.dialog.showModal();
  }

  step(by) {
    const count = this.gallery.cases.length;
    this.number = (this.number + by + count) % count;
    this.show();
    this.dialog.scrollTop = 0;
  }

  key(event) {
    if (event.target.readOnly || event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === 'ArrowLeft') this.step(-1);
    else if (event.key === 'ArrowRight') this.step(1);
    else return;
    event.preventDefault();
  }

  back() {
    const tile = this.gallery.tiles.children[this.number];
    if (tile) tile.focus();
  }

  show() {
    const one = this.gallery.cases[this.number];
    this.where.textContent = (this.number + 1) + ' of ' + this.gallery.cases.length + ' · ' +
      this.gallery.section.name + ' · ' + one.task + ' · ' + one.name;
    const sides = make('div', {class: 'sides'});
    if (one.source) {
      const boxes = shown.planned && last(one) ? last(one).boxes : [];
      sides.append(make('div', {}, make('h4', {}, 'source'), picture(one.source, 'source', boxes)));
    }
    one.sides.forEach((side, k) => sides.append(column(side, this.gallery.section.models[k])));
    this.body.replaceChildren(
      make('h3', {}, one.prompt || '(no prompt)', ' ', tag(one.change, one.change) || ''), sides);
    if (one.diff) this.body.append(difference(one.diff));
  }
}

const viewer = new Viewer();
for (const place of document.querySelectorAll('.gallery')) {
  new Gallery(place, data.sections[Number(place.dataset.section)], Number(place.dataset.section));
}
