// @ts-check
// Numbers, sizes and times as people read them.

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

/** @param {number | null | undefined} count */
export function bytes(count) {
  if (count == null) return '–';
  let value = count, unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) { value /= 1000; unit += 1; }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** A length of time. @param {number | null | undefined} ms */
export function span(ms) {
  if (ms == null || !Number.isFinite(ms)) return '–';
  if (ms < 1) return '0 ms';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 100) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} days`;
}

/** Counts down to the second. @param {number} ms */
export function countdown(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')} min`;
  return span(ms);
}

/** @param {number} unixMs @param {number} now */
export function ago(unixMs, now) {
  const ms = now - unixMs;
  return ms < 1500 ? 'now' : `${span(ms)} ago`;
}

/** The part of a whole, from 0 to 1. @param {number | null | undefined} part */
export function percent(part) {
  return part == null || !Number.isFinite(part) ? '–' : `${Math.round(part * 100)} %`;
}

/** @param {number | null | undefined} value */
export function count(value) {
  return value == null ? '–' : value.toLocaleString('en').replaceAll(',', ' ');
}

/** @param {number} unixMs */
export const clock = (unixMs) => new Date(unixMs).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit' });

/** A number as it was typed, with a point or a comma; what is none stays as it is, so that the daemon says what is wrong. @param {string} text */
export function typed(text) {
  const number = Number(text.trim().replace(',', '.'));
  return Number.isNaN(number) ? text.trim() : number;
}
