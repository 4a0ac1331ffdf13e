// @ts-check
// Markdown as elements: what a model writes becomes text in nodes, and never markup. Links open only for http, https and mailto.
import { html, useRef } from './dom.js';
import { CopyButton } from './parts.js';

// Backticks with others behind them are code within a line.
const FENCE = /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})\s*([^\s`]*)/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;
/** Deeper lists and quotes are shown as text. */
const DEPTH_MAX = 6;
/** A longer paragraph is shown as text, and a longer line is no rule. */
const PARAGRAPH_MAX = 20_000, RULE_MAX = 300;

/** @param {string} address */
function safe(address) {
  try {
    const url = new URL(address);
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

// Every part has a bound, so that no text takes longer than its length explains.
const INLINE = /(?<!`)(`+)(?!`)([\s\S]{0,600}?[^`])\1(?!`)|\*\*(?=\S)([\s\S]{0,600}?\S)\*\*(?!\*)|(?<![\w*])\*(?=[^\s*])([^*\n]{0,600}?[^\s*])\*(?![\w*])|(?<!\w)_(?=[^\s_])([^_\n]{0,600}?[^\s_])_(?!\w)|~~(?=\S)([\s\S]{0,600}?\S)~~|!?\[([^[\]\n]{1,500})\]\(\s*<?([^\s()<>]{1,2000}(?:\([^\s()]*\)[^\s()]*)?)>?(?:\s+"[^"\n]*")?\s*\)|(?<![\w/])(https?:\/\/[^\s<>"'`]{1,2000}[^\s<>"'`.,;:!?)\]*_])|\\([!-/:-@[-`{-~])/;

/** @param {string} text @param {number} [depth] @param {boolean} [isInLink] @returns {any[]} */
function inline(text, depth = 0, isInLink = false) {
  if (text.length > PARAGRAPH_MAX) return [text];
  const nodes = [];
  let rest = text;
  while (rest) {
    const found = depth < DEPTH_MAX ? INLINE.exec(rest) : null;
    if (!found) { nodes.push(rest); break; }
    const [all, , code, bold, italic, italic2, struck, label, address, bare, escaped] = found;
    if (found.index) nodes.push(rest.slice(0, found.index));
    if (code !== undefined) nodes.push(html`<code>${code.replace(/^ (.*) $/s, '$1')}</code>`);
    else if (bold !== undefined) nodes.push(html`<strong>${inline(bold, depth + 1, isInLink)}</strong>`);
    else if (italic ?? italic2) nodes.push(html`<em>${inline(italic ?? italic2, depth + 1, isInLink)}</em>`);
    else if (struck !== undefined) nodes.push(html`<del>${inline(struck, depth + 1, isInLink)}</del>`);
    else if (label !== undefined || bare !== undefined) {
      // An address in the words of a link leads nowhere else.
      const target = isInLink ? null : safe(address ?? bare);
      const words = label === undefined ? bare : inline(label, depth + 1, true);
      nodes.push(target ? html`<a href=${target} target="_blank" rel="noopener noreferrer nofollow">${words}</a>` : all);
    } else nodes.push(escaped ?? all);
    rest = rest.slice(found.index + all.length);
  }
  return nodes;
}

/** Cuts a text where a block certainly ends: what came before the last cut does not change while text is appended. @param {string} text */
export function pieces(text) {
  const pieces = [];
  let piece = '', fence = '';
  for (const line of text.split('\n')) {
    const mark = FENCE.exec(line)?.[1];
    if (fence) { if (mark && mark[0] === fence[0] && mark.length >= fence.length && line.trim() === mark) fence = ''; }
    else if (mark) fence = mark;
    // An empty line, then one that is not indented: no list goes on.
    if (!fence && !mark && piece.endsWith('\n\n') && line.trim() && !/^\s/.test(line) && !ITEM.test(line)) {
      pieces.push(piece);
      piece = '';
    }
    piece += `${line}\n`;
  }
  if (piece.trim()) pieces.push(piece);
  return pieces;
}

/** @param {RegExp} rule @param {string} line */
const isRule = (rule, line) => line.length <= RULE_MAX && rule.test(line);

/** @param {string} row */
const cells = (row) => row.trim().replace(/^\||\|$/g, '').split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('\\|', '|'));

/** @param {string[]} lines @param {number} [depth] @returns {any[]} */
function blocks(lines, depth = 0) {
  const nodes = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    if (!line.trim()) { at += 1; continue; }
    const fence = FENCE.exec(line);
    if (fence) {
      const code = [];
      at += 1;
      while (at < lines.length && !(lines[at].trim().startsWith(fence[1]) && lines[at].trim().replaceAll(fence[1][0], '') === '')) { code.push(lines[at]); at += 1; }
      at += 1;
      nodes.push(html`<${Code} text=${code.join('\n')} language=${fence[2]} />`);
      continue;
    }
    const heading = HEADING.exec(line);
    if (heading) {
      // The page has headings of its own above these.
      nodes.push(html`<p class=${`h h${heading[1].length}`}>${inline(heading[2])}</p>`);
      at += 1;
      continue;
    }
    if (isRule(RULE, line)) { nodes.push(html`<hr />`); at += 1; continue; }
    if (/^ {0,3}>/.test(line) && depth < DEPTH_MAX) {
      const quoted = [];
      while (at < lines.length && /^ {0,3}>/.test(lines[at])) { quoted.push(lines[at].replace(/^ {0,3}> ?/, '')); at += 1; }
      nodes.push(html`<blockquote>${blocks(quoted, depth + 1)}</blockquote>`);
      continue;
    }
    if (line.includes('|') && at + 1 < lines.length && lines[at + 1].includes('-') && isRule(TABLE_RULE, lines[at + 1])) {
      const head = cells(line);
      const rows = [];
      at += 2;
      while (at < lines.length && lines[at].includes('|')) { rows.push(cells(lines[at])); at += 1; }
      nodes.push(html`<div class="table" tabindex="0" role="region" aria-label="Table"><table>
        <thead><tr>${head.map((cell) => html`<th scope="col">${inline(cell)}</th>`)}</tr></thead>
        <tbody>${rows.map((row) => html`<tr>${head.map((_, column) => html`<td>${inline(row[column] ?? '')}</td>`)}</tr>`)}</tbody></table></div>`);
      continue;
    }
    const item = ITEM.exec(line);
    if (item && depth < DEPTH_MAX) {
      const indent = item[1].length, ordered = /\d/.test(item[2]);
      /** @type {string[][]} */ const items = [];
      while (at < lines.length) {
        const next = ITEM.exec(lines[at]);
        const depthHere = /^\s*/.exec(lines[at])?.[0].length ?? 0;
        if (next && next[1].length <= indent + 1 && /\d/.test(next[2]) === ordered && !isRule(RULE, lines[at])) items.push([next[3]]);
        else if (lines[at].trim() && depthHere > indent) items[items.length - 1].push(lines[at].slice(Math.min(depthHere, indent + 2)));
        else if (!lines[at].trim() && at + 1 < lines.length && (/^\s/.test(lines[at + 1]) || ITEM.test(lines[at + 1]))) items[items.length - 1].push('');
        else break;
        at += 1;
      }
      const shown = items.map((lines) => html`<li>${lines.length === 1 ? inline(lines[0]) : blocks(lines, depth + 1)}</li>`);
      const start = ordered ? Number.parseInt(item[2], 10) : 1;
      nodes.push(ordered ? html`<ol start=${start}>${shown}</ol>` : html`<ul>${shown}</ul>`);
      continue;
    }
    const text = [line];
    at += 1;
    while (at < lines.length && lines[at].trim() && !FENCE.test(lines[at]) && !HEADING.test(lines[at]) && !ITEM.test(lines[at]) && !/^ {0,3}>/.test(lines[at])) { text.push(lines[at]); at += 1; }
    nodes.push(html`<p>${text.flatMap((line, index) => [index ? html`<br />` : '', ...inline(line.trim())])}</p>`);
  }
  return nodes;
}

/** @param {{text: string, language: string}} props */
function Code({ text, language }) {
  return html`<figure class="code"><figcaption><span>${language || 'text'}</span><${CopyButton} text=${text} label="Copy code" /></figcaption>
    <pre tabindex="0"><code>${text}</code></pre></figure>`;
}

/** A text as Markdown; while it grows only its last piece is read again. @param {{text: string}} props */
export function Markdown({ text }) {
  const kept = useRef(/** @type {Map<string, any>} */ (new Map()));
  const next = new Map();
  const shown = pieces(text).map((piece, index) => {
    const name = `${index} ${piece}`;
    const node = kept.current.get(name) ?? html`<div class="piece" key=${index}>${blocks(piece.split('\n'))}</div>`;
    next.set(name, node);
    return node;
  });
  kept.current = next;
  return html`<div class="prose">${shown}</div>`;
}
