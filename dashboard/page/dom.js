// @ts-check
// What every view writes elements with. No text ever becomes markup: htm makes calls, preact makes nodes.
import { h } from 'preact';
import htm from 'htm';

export { render, Component } from 'preact';
export { useEffect, useRef, useState } from 'preact/hooks';
export { signal, computed, effect, batch, useSignal } from '@preact/signals';

export const html = htm.bind(h);
