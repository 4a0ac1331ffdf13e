// The page in a real browser: `node run.mjs [--long] [--shots FOLDER] [URL KEY]`. Against a scripted daemon, and a running one at URL where that is given.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { launch, open, program } from './browser.mjs';
import { ENDLESS, HOSTILE, daemon } from './mock.mjs';

const given = process.argv.slice(2);
const isLong = given.includes('--long');
const shots = given.includes('--shots') ? given[given.indexOf('--shots') + 1] : null;
const [url, key] = given.filter((word, at) => !word.startsWith('--') && given[at - 1] !== '--shots');
if (!program) {
  console.log('skipped: no Chromium here, so the page was not tried in a browser');
  process.exit(0);
}

const axe = await readFile(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
const browser = await launch();
const failed = [];

/** A test: `body` gets a scripted daemon and a page of it, which may not complain. */
async function test(name, { page: wanted, ...scripted }, body) {
  const mock = await daemon(scripted);
  const { page, context, complaints } = await open(browser, wanted);
  page.setDefaultTimeout(15_000);
  try {
    await body(page, mock);
    assert.deepEqual(complaints, []);
    console.log(`ok   ${name}`);
  } catch (error) {
    failed.push(name);
    console.log(`FAIL ${name}\n${error.stack}\n${complaints.join('\n')}`);
  } finally {
    await context.close();
    await mock.stop();
  }
}

/** What axe finds is nothing. It runs outside the page's policy, in a world of its own. */
async function accessible(page) {
  const session = await page.context().newCDPSession(page);
  const { frameTree } = await session.send('Page.getFrameTree');
  const { executionContextId: contextId } = await session.send('Page.createIsolatedWorld', { frameId: frameTree.frame.id });
  await session.send('Runtime.evaluate', { expression: axe, contextId });
  const expression = 'axe.run(document, { resultTypes: ["violations"] }).then((found) => JSON.stringify(found.violations.map(({ id, nodes }) => [id, nodes.slice(0, 4).map(({ html }) => html.slice(0, 160))])))';
  const { result } = await session.send('Runtime.evaluate', { expression, contextId, awaitPromise: true, returnByValue: true });
  assert.equal(result.value, '[]');
}

const fits = async (page) => assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'it is wider than the window');
const shot = (page, name) => (shots ? page.screenshot({ path: `${shots}/${name}.png`, fullPage: true }) : undefined);
const settle = (page) => page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));

const sizes = isLong ? [360, 768, 1280] : [360, 1280];
for (const width of sizes) {
  for (const dark of isLong ? [false, true] : [width === 360]) {
    await test(`every view fits ${width} px, ${dark ? 'dark' : 'light'}, and is accessible`, { page: { width, dark } }, async (page, mock) => {
      for (const [view, mark] of [['dashboard', '.tiles'], ['chat', '.composer'], ['playground', '.tabs']]) {
        await page.goto(`${mock.url}/#${view}`);
        await page.waitForSelector(mark);
        await page.waitForFunction(() => document.querySelector('.link.live'));
        if (view === 'chat') {
          mock.say([{ reasoning_content: 'Let me see. ' }, '# A title\n\nSome **bold** text with `code`:\n\n```python\nprint("hi")\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- one\n- two', { tool_calls: [{ index: 0, id: 'c1', function: { name: 'weather', arguments: '{"city":"Rome"}' } }] }]);
          await page.fill('.composer textarea', 'Hello');
          await page.keyboard.press('Enter');
          await page.waitForSelector('.results');
        }
        await settle(page);
        await fits(page);
        await shot(page, `${view}-${width}-${dark ? 'dark' : 'light'}`);
        await accessible(page);
      }
    });
  }
}

await test('a page weighs 150 kB at most and asks no other server', {}, async (page, mock) => {
  for (const view of ['dashboard', 'chat', 'playground']) {
    await page.goto('about:blank');
    await page.goto(`${mock.url}/#${view}`, { waitUntil: 'load' });
    await page.waitForFunction(() => document.querySelector('main > *:not(:empty)') && document.querySelector('.link.live'));
    const fetched = await page.evaluate(() => performance.getEntries().filter((entry) => 'decodedBodySize' in entry).map(({ name, decodedBodySize }) => [name, decodedBodySize]));
    assert.ok(fetched.every(([name]) => name.startsWith(mock.url)), String(fetched));
    const weight = fetched.filter(([name]) => /\/(page\/.*)?(#.*)?$/.test(name.slice(mock.url.length))).reduce((sum, [, bytes]) => sum + bytes, 0);
    assert.ok(weight > 50_000 && weight <= 150_000, `${view}: ${weight} bytes`);
  }
});

await test('two hundred models and forty requests are shown, found and followed', { models: 200, requests: 40 }, async (page, mock) => {
  await page.goto(mock.url);
  await page.waitForFunction(() => document.querySelectorAll('.request').length === 40);
  assert.equal(await page.locator('.row.model').count(), 30);
  await page.fill('input[type=search]', 'model-19');
  await page.waitForFunction(() => document.querySelectorAll('.row.model').length === 11);
  mock.tell({ set: { requests: { 0: { ...mock.state.requests[0], usage: { completion_tokens: 777 } } } }, gone: { requests: ['1', '2'] }, decisions: [{ number: 99, at_unix_ms: Date.now(), model: 'm', what: 'loaded', text: 'the newest decision' }] });
  await page.getByText('777 tokens').waitFor();
  await page.getByText('the newest decision').waitFor();
  assert.equal(await page.locator('.request').count(), 38);
});

await test('the dashboard orders what its buttons say, and asks first where it hurts', { models: 6 }, async (page, mock) => {
  await page.goto(mock.url);
  await page.getByRole('button', { name: 'Load org/model-5:Q4_K_M' }).click();
  await page.getByText('is ready after').waitFor();
  // Nothing has to leave for it, so nothing is asked.
  await page.getByRole('button', { name: 'Unload org/model-0:Q4_K_M' }).click();
  await page.getByText('leaves memory', { exact: false }).first().waitFor();
  // This one serves requests.
  await page.getByRole('button', { name: 'Unload org/model-1:Q4_K_M' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Unload' }).click();
  await page.getByLabel('More for org/model-2:Q4_K_M').click();
  await page.getByRole('button', { name: 'Remove from disk' }).locator('visible=true').click();
  await page.getByRole('dialog').getByText('Its files are deleted').waitFor();
  await page.getByRole('button', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: 'Collection…' }).click();
  await page.getByRole('dialog').getByText('frees 1.4 GB').waitFor();
  await page.getByRole('dialog').getByText('unfinished downloads: 2').waitFor();
  assert.equal(await page.getByRole('dialog').getByText('unfinished files').count(), 0);
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Why: org/model-0:Q4_K_M' }).first().click();
  await page.getByRole('dialog').getByText('a request asked for it').first().waitFor();
  await page.keyboard.press('Escape');
  await page.fill('input[aria-label="Model to fetch"]', 'org/name');
  await page.keyboard.press('Enter');
  await page.getByText('is being fetched').waitFor();
  const paths = mock.orders.map(({ path }) => path);
  assert.deepEqual(paths, ['/admin/warm', '/admin/unload', '/admin/unload', '/admin/gc', '/admin/pull']);
});

await test('a load shows first which models may have to leave', { models: 12 }, async (page, mock) => {
  mock.state.pool.resident_bytes = 6.5e9;
  await page.goto(mock.url);
  await page.getByRole('button', { name: 'Load org/model-5:Q4_K_M' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('will probably leave memory').waitFor();
  // Idle and not pinned, nor needed by what is pinned.
  await dialog.getByText('org/model-2:Q4_K_M').waitFor();
  for (const stays of ['org/model-0:Q4_K_M', 'org/model-8:Q4_K_M']) assert.equal(await dialog.getByText(stays).count(), 0);
  assert.equal(mock.orders.length, 0);
});

await test('nothing that a model, a name, a tool or a log says runs', { models: 40, requests: 20, hostile: true }, async (page, mock) => {
  await page.goto(mock.url);
  await page.waitForSelector('.request');
  await page.getByRole('button', { name: /^Why: / }).first().click();
  await page.waitForSelector('.why li');
  await page.keyboard.press('Escape');
  mock.say([...HOSTILE.concat(ENDLESS).map((text) => `${text}\n\n`), { reasoning_content: HOSTILE.join('\n') }, { tool_calls: [{ index: 0, id: HOSTILE[0], function: { name: HOSTILE[1], arguments: HOSTILE[2] } }] }]);
  await page.goto(`${mock.url}/#chat`);
  await page.fill('.composer textarea', HOSTILE.join('\n'));
  await page.locator('input[aria-label="Text to attach"]').setInputFiles({ name: '<img src=x onerror=ran()>.txt', mimeType: 'text/plain', buffer: Buffer.from(HOSTILE.join('\n').replace('\0', '')) });
  await page.waitForSelector('.files li');
  await page.click('.composer button.primary');
  await page.waitForSelector('.results');
  for (const details of await page.locator('.messages details > summary').all()) await details.click();
  assert.equal(await page.locator('main script, main iframe, main img, main svg [onload], main [onclick], main [onerror]').count(), 0);
  for (const link of await page.locator('.messages a').all()) assert.match(await link.getAttribute('href'), /^https?:/);
  await page.goto(`${mock.url}/#chat?model=${encodeURIComponent(HOSTILE[0])}`);
  await page.goto(`${mock.url}/#playground`);
  await page.getByRole('button', { name: 'Run' }).click();
  await page.waitForSelector('pre.wrap');
});

await test('a chat is streamed, stopped, continued, edited, regenerated and branched', {}, async (page, mock) => {
  await page.goto(`${mock.url}/#chat`);
  await page.waitForFunction(() => document.querySelector('.picker')?.value);
  mock.say([{ comment: 'waiting for a slot: place 3 in the queue, about 4 s' }, null]);
  await page.fill('.composer textarea', 'First question');
  await page.keyboard.press('Enter');
  await page.getByText('place 3 in the queue').waitFor();
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByText('stopped').waitFor();
  mock.say(['Half of', ' it', null]);
  await page.getByRole('button', { name: 'Regenerate' }).click();
  await page.getByText('Half of it').waitFor();
  await page.keyboard.press('Tab');
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByText('2 of 2').waitFor();
  mock.say([' and the rest.']);
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByText('Half of it and the rest.').waitFor();
  assert.match(mock.orders.at(-1).body.prompt, /Half of it$/);
  await page.getByText(/first after 120 ms/).waitFor();
  mock.say(['Another answer.']);
  await page.locator('.message.user').getByRole('button', { name: 'Edit' }).click();
  await page.locator('.editor textarea').fill('Second question');
  await page.locator('.editor').getByRole('button', { name: 'Send' }).click();
  await page.getByText('Another answer.').waitFor();
  assert.deepEqual(mock.orders.at(-1).body.messages, [{ role: 'user', content: 'Second question' }]);
  await page.getByLabel('The version before').click();
  await page.getByText('Half of it and the rest.').waitFor();
  // Kept over a reload.
  await page.reload();
  await page.locator('.list li button').first().click();
  await page.getByText('Half of it and the rest.').waitFor();
  await page.getByLabel('Search conversations').fill('nothing like this');
  await page.getByText('Nothing is found.').waitFor();
});

await test('settings and results of tools reach the request', {}, async (page, mock) => {
  await page.goto(`${mock.url}/#chat`);
  await page.waitForFunction(() => document.querySelector('.picker')?.value);
  await page.getByRole('button', { name: 'Settings' }).click();
  await page.getByLabel('System prompt').fill('Be brief.');
  await page.getByLabel('Temperature').fill('0.2');
  await page.getByLabel('Form of the answer').selectOption('json');
  await page.keyboard.press('Escape');
  mock.say([{ tool_calls: [{ index: 0, id: 'c1', function: { name: 'weather', arguments: '{"city":' } }] }, { tool_calls: [{ index: 0, function: { arguments: '"Rome"}' } }] }]);
  await page.fill('.composer textarea', 'Weather?');
  await page.keyboard.press('Enter');
  await page.getByLabel('Result of weather').fill('sunny');
  const asked = mock.orders.at(-1).body;
  assert.deepEqual([asked.temperature, asked.response_format, asked.messages[0]], [0.2, { type: 'json_object' }, { role: 'system', content: 'Be brief.' }]);
  mock.say(['It is sunny.']);
  await page.getByRole('button', { name: 'Give to the model' }).click();
  await page.getByText('It is sunny.').waitFor();
  const messages = mock.orders.at(-1).body.messages;
  assert.deepEqual(messages.at(-1), { role: 'tool', tool_call_id: 'c1', content: 'sunny' });
  assert.deepEqual(messages.at(-2).tool_calls, [{ id: 'c1', type: 'function', function: { name: 'weather', arguments: '{"city":"Rome"}' } }]);
});

await test('what is exported is taken in whole, and what is deleted stays away', {}, async (page, mock) => {
  await page.goto(`${mock.url}/#chat`);
  await page.waitForFunction(() => document.querySelector('.picker')?.value);
  const found = await page.evaluate(async () => {
    const store = await import('/page/store.js');
    const messages = {
      constructor: { id: 'constructor', parent: null, role: 'user', content: 'Read this', files: [{ name: 'a.md', text: '```\nx\n```' }], at: 1 },
      second: { id: 'second', parent: 'constructor', role: 'assistant', content: 'Read.', calls: [], at: 2 },
    };
    const file = (value) => new File([JSON.stringify(value)], 'one.json');
    const [taken] = await store.importFile(file({ title: 'Taken', model: 'm', system: 's', params: { seed: '7', evil: {} }, leaf: 'second', messages }));
    const path = store.path(taken);
    // Two tabs that add to the same conversation.
    const add = (id) => ({ ...taken, leaf: id, messages: { ...taken.messages, [id]: { ...path[1], id, parent: path[0].id } } });
    await store.put(add('left'));
    await store.put(add('right'));
    const [kept] = await store.list('taken');
    await store.remove(taken.id);
    await store.put(kept);
    const empty = await store.importFile(file({ messages: [] })).catch((error) => error.message);
    return { path: path.map(({ content, files, calls }) => [content, files?.[0].text, calls]), params: taken.params, isRenamed: !('second' in taken.messages), kept: ['left', 'right'].every((id) => id in kept.messages), left: (await store.list('taken')).length, fenced: store.fenced(path[0].files[0]), empty };
  });
  assert.deepEqual(found, {
    path: [['Read this', '```\nx\n```', undefined], ['Read.', undefined, undefined]], params: { seed: '7' }, isRenamed: true, kept: true, left: 0, fenced: 'File a.md:\n````\n```\nx\n```\n````', empty: 'one.json has no conversation in it',
  });
});

await test('code within a line ends no text, and a link lies in no other', {}, async (page, mock) => {
  await page.goto(`${mock.url}/#chat`);
  await page.waitForFunction(() => document.querySelector('.picker')?.value);
  mock.say(['```one``` word\n\nthe end\n\n[**https://a.example**](https://b.example/)']);
  await page.fill('.composer textarea', 'Hello');
  await page.keyboard.press('Enter');
  await page.getByText('the end').waitFor();
  await page.waitForSelector('.prose a');
  assert.equal(await page.locator('.prose figure').count(), 0);
  assert.deepEqual(await page.locator('.prose a').evaluateAll((links) => links.map((link) => link.href)), ['https://b.example/']);
});

await test('a fetched model is listed when its fetch ends', { models: 2 }, async (page, mock) => {
  await page.goto(mock.url);
  await page.waitForFunction(() => document.querySelectorAll('.row.model').length === 2);
  mock.learn('org/fetched');
  mock.tell({ set: { downloads: { 'hf://org/new:Q4_K_M': { state: 'done' } } } });
  await page.getByLabel('More for org/fetched').waitFor();
});

await test('a conversation stays on the page when a model comes, and goes when it is deleted under an answer', { models: 2 }, async (page, mock) => {
  await page.goto(`${mock.url}/#chat?model=${encodeURIComponent('org/model-1:Q4_K_M')}`);
  await page.waitForSelector('.link.live');
  await page.waitForFunction(() => document.querySelectorAll('.picker option').length === 2);
  await page.fill('.composer textarea', 'Question');
  await page.keyboard.press('Enter');
  await page.getByText('Hello there.').waitFor();
  mock.learn('org/fetched');
  mock.tell({ set: { downloads: { 'hf://org/new:Q4_K_M': { state: 'done' } } } });
  await page.waitForFunction(() => [...document.querySelectorAll('.picker option')].some((option) => option.value === 'org/fetched'));
  assert.equal(await page.getByText('Hello there.').count(), 1);
  mock.say(['Half of it', null]);
  await page.fill('.composer textarea', 'Another question');
  await page.keyboard.press('Enter');
  await page.getByText('Half of it').waitFor();
  await page.getByLabel('More for this conversation').click();
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await page.getByText('No conversation yet.').waitFor();
  assert.equal(await page.evaluate(async () => (await (await import('/page/store.js')).list('')).length), 0);
});

await test('the playground shows the request that it sends', { models: 8 }, async (page, mock) => {
  await page.goto(`${mock.url}/#playground`);
  await page.waitForSelector('.link.live');
  for (const [language, text] of [['Python', 'from openai import OpenAI'], ['JavaScript', "import OpenAI from 'openai'"], ['Ollama', '/api/chat'], ['curl', '/v1/chat/completions']]) {
    await page.getByRole('button', { name: language, exact: true }).click();
    await page.getByText(text).first().waitFor();
  }
  await page.getByLabel('Message').fill("It's \"quoted\"");
  await page.getByText(`It'\\''s \\"quoted\\"`).waitFor();
  await page.getByRole('button', { name: 'Embeddings' }).click();
  await page.getByRole('button', { name: 'Run' }).click();
  await page.getByText('3 vectors of 3 numbers').waitFor();
});

await test('a key is asked for once and kept for the tab', { needsKey: true }, async (page, mock) => {
  await page.goto(mock.url);
  await page.getByText('A key is needed').waitFor();
  await page.getByLabel('Key', { exact: true }).fill(mock.key);
  await page.keyboard.press('Enter');
  await page.waitForSelector('.tiles');
  await page.reload();
  await page.waitForSelector('.tiles');
  assert.equal(await page.evaluate(() => localStorage.getItem('samovar.key')), null);
});

await test('a daemon that goes and comes back needs no reload, and a hidden tab does not listen', {}, async (page, mock) => {
  await page.goto(mock.url);
  await page.waitForSelector('.link.live');
  await mock.stop();
  await page.waitForSelector('.link.offline');
  await mock.resume();
  await page.waitForSelector('.link.live');
  await page.waitForSelector('.tiles');
  const hide = (hidden) => page.evaluate((hidden) => {
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
  await hide(true);
  for (let tries = 0; mock.listeners() > 0 && tries < 200; tries += 1) await settle(page);
  assert.equal(mock.listeners(), 0);
  await hide(false);
  for (let tries = 0; mock.listeners() !== 1 && tries < 200; tries += 1) await settle(page);
  assert.equal(mock.listeners(), 1);
});

await test('everything is reached with the keyboard, and nothing moves where that is not wanted', { page: { reduced: true } }, async (page, mock) => {
  await page.goto(mock.url);
  await page.waitForSelector('.tiles');
  const reached = new Set();
  for (let presses = 0; presses < 60; presses += 1) {
    await page.keyboard.press('Tab');
    reached.add(await page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent?.trim()));
  }
  for (const needed of ['To the content', 'Chat', 'Key: none', 'Find a model', 'Unload org/model-0:Q4_K_M', 'More for org/model-0:Q4_K_M', 'Collection…', 'Model to fetch']) assert.ok(reached.has(needed), `${needed} is not reached: ${[...reached].join(' | ')}`);
  assert.equal(await page.evaluate(() => document.getAnimations().filter((one) => one.playState === 'running').length), 0);
});

if (isLong) {
  await test('ten thousand tokens are streamed with few long tasks', {}, async (page, mock) => {
    await page.goto(`${mock.url}/#chat`);
    await page.waitForFunction(() => document.querySelector('.picker')?.value);
    await page.evaluate(() => { window.long = 0; new PerformanceObserver((list) => { for (const entry of list.getEntries()) window.long += entry.duration; }).observe({ type: 'longtask' }); });
    mock.say(Array.from({ length: 10_400 }, (_, at) => (at % 26 === 25 ? { pause: 20 } : at % 40 === 39 ? '.\n\n' : ` word${at}`)));
    const began = Date.now();
    await page.fill('.composer textarea', 'Much');
    await page.keyboard.press('Enter');
    await page.getByText('10 400 tokens').waitFor({ timeout: 60_000 });
    const share = await page.evaluate(() => window.long) / (Date.now() - began);
    console.log(`     ${Date.now() - began} ms, ${(share * 100).toFixed(1)} % of it in long tasks`);
  });
}

if (url) {
  const { page, context, complaints } = await open(browser, { key });
  page.setDefaultTimeout(60_000);
  try {
    await page.goto(`${url}/#chat`);
    await page.waitForFunction(() => document.querySelector('.picker')?.value);
    await page.getByRole('button', { name: 'Settings' }).click();
    await page.getByLabel('Tokens at most').fill('20');
    await page.keyboard.press('Escape');
    await page.fill('.composer textarea', 'Tell me a story about a fox');
    await page.keyboard.press('Enter');
    await page.getByText(/2\d tokens|1\d tokens/).waitFor();
    await page.goto(`${url}/#dashboard`);
    await page.getByText('was loaded').or(page.getByText('loaded')).first().waitFor();
    await accessible(page);
    assert.deepEqual(complaints, []);
    console.log('ok   the running daemon answers a chat and shows what it did');
  } catch (error) {
    failed.push('the running daemon');
    console.log(`FAIL the running daemon\n${error.stack}\n${complaints.join('\n')}`);
  } finally {
    await context.close();
  }
}

await browser.close();
if (failed.length) {
  console.log(`failed: ${failed.join(', ')}`);
  process.exit(1);
}
