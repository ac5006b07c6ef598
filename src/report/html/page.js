'use strict';
// Guest output is handled as text here: it is set as textContent, and classes are of a fixed form.
// Characters that change the direction of text or are invisible become U+FFFD.
const data = JSON.parse(document.getElementById('data').textContent.replace(/[\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g, '\ufffd'));
const run = data.run;

function el(tag, options, ...children) {
  const made = document.createElement(tag);
  const { text, on, ...attributes } = options || {};
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'class') made.className = value; else made.setAttribute(name, value === true ? '' : value);
  }
  for (const [name, act] of Object.entries(on || {})) made.addEventListener(name, act);
  made.append(...children.filter(child => child !== null && child !== undefined && child !== false));
  return made;
}
function seconds(time) {
  if (time < 0.9995) return Math.round(time * 1000) + ' ms';
  if (time < 60) return time.toFixed(1) + ' s';
  return Math.floor(time / 60) + ' min ' + Math.floor(time % 60) + ' s';
}
function clock(time) {
  return Math.floor(time / 60) + ':' + (time % 60).toFixed(1).padStart(4, '0');
}
function count(number, what) { return number + ' ' + what + (number === 1 ? '' : 's'); }
function fileName(path) { return path.split('/').pop(); }
// Two suites may have a scenario of the same name.
function titleOf(scenario) { return scenario.name + (scenario.apart ? ' (' + scenario.apart + ')' : ''); }
// Returns the address of a file in the record, relative to this page, which is in the record or names its folder; null for a
// path that would lead elsewhere.
const folder = data.folder === undefined ? '.' : 'file://' + data.folder.split('/').map(encodeURIComponent).join('/');
function address(path) {
  const parts = path.split('/');
  if (parts.some(part => part === '' || part === '.' || part === '..')) return null;
  try { return folder + '/' + parts.map(encodeURIComponent).join('/'); } catch { return null; }
}

// --- descriptions of machines ---
function phaseClass(name) {
  const known = [['firmware', 'firmware'], ['kernel', 'kernel'], ['initrd', 'initrd'], ['stage', 'initrd'], ['services', 'services'], ['clone', 'clone'], ['in use', 'login']];
  if (name === 'starting') return 'p-start';
  const found = known.find(([part]) => name.includes(part));
  return 'p-' + (found ? found[1] : 'other');
}
// The phases of a machine's life: { name, from, to }, in seconds since 1970.
function pieces(machine, end) {
  const all = [];
  machine.started.forEach((start, life) => {
    const next = machine.started[life + 1] ?? Infinity;
    const stop = machine.stopped.find(stop => stop.time >= start && stop.time <= next);
    const over = stop ? stop.time : Math.min(next, end);
    let last = { name: 'starting', from: start };
    for (const phase of machine.phases.filter(phase => phase.time >= start && phase.time < next)) {
      if (phase.time > last.from + 0.0005) all.push({ ...last, to: phase.time });
      const name = { 'login prompt': 'in use', cloned: 'in use, a clone' }[phase.name] || phase.name;
      last = { name, from: phase.time };
    }
    all.push({ ...last, to: Math.max(over, last.from) });
  });
  return all;
}
function attemptEnd(attempt) { return attempt.took === null ? run.last : attempt.begun + attempt.took; }
function track(parts, from, length, label, failedAt) {
  const line = el('div', { class: 'track', role: 'img', 'aria-label': label });
  const share = time => 100 * Math.max(0, time - from) / Math.max(length, 0.001);
  for (const part of parts) {
    const piece = el('i', { class: part.kind || phaseClass(part.name), title: part.name + ': ' + seconds(part.to - part.from) });
    piece.style.left = share(part.from) + '%';
    piece.style.width = (share(part.to) - share(part.from)) + '%';
    line.append(piece);
  }
  if (failedAt !== undefined) {
    const mark = el('i', { class: 'end', title: 'failed' });
    mark.style.left = 'min(' + share(failedAt) + '%, calc(100% - 3px))';
    line.append(mark);
  }
  return line;
}
function lifeInWords(parts) {
  return parts.map(part => part.name + ' ' + seconds(part.to - part.from)).join(', ');
}

// --- the network ---
// The faults of the first three links in words, a line each. Two directions with the same faults are one line.
function faultLines(links) {
  const lines = [];
  for (const link of links.values()) {
    if (lines.length === 3) { lines.push('…'); break; }
    const back = links.get([link.vlan, link.to, link.from].join('/'));
    const both = back && back.faults.join() === link.faults.join();
    if (both && link.from > link.to) continue;
    lines.push(link.from + (both ? ' ↔ ' : ' → ') + link.to + ' on VLAN ' + link.vlan + ': ' + link.faults.join(', '));
  }
  return lines;
}
// The times in which a network has faults, as the phases of a machine's life.
function faultPieces(attempt) {
  const links = new Map(), all = [];
  attempt.faults.forEach((change, number) => {
    for (const link of change.links) {
      const key = [link.vlan, link.from, link.to].join('/');
      if (!link.faults.length) links.delete(key);
      else if (links.size < 10000) links.set(key, link);
    }
    const next = attempt.faults[number + 1];
    const to = next ? next.time : attemptEnd(attempt);
    if (!links.size || to <= change.time) return;
    all.push({ name: faultLines(links).join('; '), kind: 'p-fault', from: change.time, to });
  });
  return all;
}
function networkView(attempt, scenario) {
  const box = el('section', { class: 'machine network' }, el('h3', { text: 'Network' }));
  const lines = data.sources[scenario.file] || {};
  if (attempt.faults.length) {
    const parts = faultPieces(attempt), from = attempt.begun, length = attemptEnd(attempt) - from;
    if (parts.length) box.append(track(parts, from, length, 'faults: ' + lifeInWords(parts)));
    const row = change => el('li', {}, el('div', { class: 'step' }, el('span', { class: 'at', text: seconds(Math.max(0, change.time - from)) }), el('span', { class: 'what', text: change.text }), el('span', { class: 'num' }), change.line ? el('code', { class: 'src', text: fileName(scenario.file) + ':' + change.line + (lines[change.line] ? '  ' + lines[change.line] : '') }) : null));
    box.append(el('h4', { text: 'Faults' }), el('ol', { class: 'steps' }, ...attempt.faults.map(row)));
  }
  if (attempt.traffic.length) {
    const columns = ['sent', 'delivered', 'dropped', 'delayed', 'held', 'duplicated', 'reordered', 'corrupted'].filter((name, at) => at < 3 || attempt.traffic.some(link => link[name]));
    const head = el('tr', {}, el('th', { scope: 'col', text: 'link' }), el('th', { scope: 'col', class: 'num', text: 'VLAN' }), ...columns.map(name => el('th', { scope: 'col', class: 'num', text: name })));
    const row = link => el('tr', {}, el('td', { text: link.from + ' → ' + link.to }), el('td', { class: 'num', text: link.vlan }), ...columns.map(name => el('td', { class: 'num', text: link[name] })));
    box.append(el('details', {}, el('summary', { text: 'Frames on ' + count(attempt.traffic.length, 'link') }), el('table', { class: 'links' }, el('thead', {}, head), el('tbody', {}, ...attempt.traffic.map(row)))));
  }
  return box;
}

// --- the head ---
const OUTCOMES = ['failed', 'flaky', 'unfinished', 'passed', 'skipped'];
const counts = Object.fromEntries(OUTCOMES.map(name => [name, run.scenarios.filter(one => one.outcome === name).length]));
function headline() {
  const said = OUTCOMES.filter(name => counts[name]).map(name => counts[name] + ' ' + name);
  if (!said.length) return 'No scenario has ended yet';
  if (said.length === 1 && counts.passed) return counts.passed === 1 ? 'The scenario passed' : 'All ' + counts.passed + ' scenarios passed';
  return said.join(', ');
}
// How fast the guest was. Under KVM only the limits are longer, since speed is relative to KVM.
function pace(machine) {
  const factor = (machine.factor || 1).toFixed(0);
  if (factor < 2) return '';
  return machine.accelerator === 'kvm' ? ', limits ' + factor + ' times as long' : ', ' + factor + ' times slower than KVM';
}
function head() {
  const title = headline();
  document.title = title + ' · nixvm-test';
  const machines = run.scenarios.flatMap(one => one.attempts).flatMap(attempt => attempt.machines);
  const accelerators = [...new Set(machines.filter(one => one.accelerator).map(one => one.accelerator + pace(one)))];
  const facts = el('dl', { class: 'facts' });
  const add = (name, value) => value && facts.append(el('div', {}, el('dt', { text: name }), el('dd', { text: value })));
  add('began', run.begun ? new Date(run.begun * 1000).toLocaleString() : '');
  add('took', seconds(run.last - run.begun));
  add('host', run.host + (run.processors ? ' (' + count(run.processors, 'processor') + ')' : ''));
  add('machines', accelerators.slice(0, 3).join('; '));
  add('arguments', run.arguments.join(' '));
  if (run.interrupted) add('interrupted by', run.interrupted);
  else if (!run.finished) add('state', 'under way, or ended without a word');
  const bar = el('div', { class: 'bar', role: 'img', 'aria-label': title });
  for (const name of OUTCOMES) {
    if (!counts[name]) continue;
    const part = el('span', { class: name });
    part.style.flexGrow = counts[name];
    bar.append(part);
  }
  const notes = el('ul', { class: 'notes' }, ...run.notes.slice(0, 20).map(note => el('li', { text: note })));
  document.getElementById('head').append(el('p', { class: 'eyebrow', text: 'nixvm-test ' + run.version }), el('h1', { text: title }), bar, facts, ...(run.notes.length ? [notes] : []));
  document.getElementById('foot').append('A record of nixvm-test ' + run.version + '. This page needs nothing else, and loads nothing.');
}

// --- the timeline ---
const lanes = [];
function timeline() {
  const rows = run.scenarios.flatMap((scenario, index) => scenario.attempts.flatMap((attempt, number) => [...attempt.machines.filter(machine => machine.started.length), ...(faultPieces(attempt).length ? [null] : [])].map(machine => ({ scenario, index, attempt, number, machine }))));
  const section = document.getElementById('time');
  if (!rows.length) { section.hidden = true; return; }
  const length = Math.max(run.last - run.begun, 0.001);
  const box = el('div', { class: 'card lanes' });
  const names = new Map();
  for (const { scenario, index, attempt, number, machine } of rows) {
    const parts = machine ? pieces(machine, attemptEnd(attempt)) : faultPieces(attempt);
    parts.forEach(part => names.set(part.kind || phaseClass(part.name), part.kind ? 'faults of the network' : part.name));
    const who = titleOf(scenario) + (!machine ? ', network' : attempt.machines.length > 1 || machine.name !== 'machine' ? ' / ' + machine.name : '') + (scenario.attempts.length > 1 ? ', try ' + (number + 1) : '');
    const whole = parts.reduce((sum, part) => sum + part.to - part.from, 0);
    const failedAt = attempt.failure ? attemptEnd(attempt) : undefined;
    const lane = el('div', { class: 'lane' }, el('span', { class: 'who', text: who, title: who }), track(parts, run.begun, length, who + ': ' + lifeInWords(parts), failedAt), el('span', { class: 'long', text: seconds(whole) }));
    lanes.push({ lane, index });
    box.append(lane);
  }
  const axis = el('div', { class: 'track' });
  for (let tick = 0; tick <= 4; tick++) {
    const mark = el('span', { text: tick ? seconds(length * tick / 4) : '0' });
    mark.style.left = 25 * tick + '%';
    axis.append(mark);
  }
  box.append(el('div', { class: 'lane axis', 'aria-hidden': 'true' }, el('span'), axis));
  const legend = el('ul', { class: 'legend', 'aria-label': 'phases' });
  for (const [kind, name] of names) legend.append(el('li', {}, el('i', { class: kind }), name));
  box.append(legend);
  const title = el('h2', { id: 'time-title', text: 'Machines over time' });
  const note = el('span', { class: 'where', text: count(rows.filter(row => row.machine).length, 'machine') });
  if (rows.length > 30) {
    const details = el('details', {}, el('summary', { text: 'Show ' + rows.filter(row => row.machine).length + ' machines' }), box);
    section.append(el('div', { class: 'title' }, title, note), details);
  } else section.append(el('div', { class: 'title' }, title, note), box);
}

// --- the film of a console ---
function player(film, label) {
  const rows = Array.from({ length: 24 }, () => el('div'));
  const cursor = el('i', { class: 'cursor', 'aria-hidden': 'true' });
  const screen = el('div', { class: 'screen', role: 'img', 'aria-label': 'console of ' + label }, ...rows, cursor);
  const from = film.from || 0, length = Math.max(film.length, from);
  let at = from, shown = 0, timer = 0, wall = 0;
  function put(frame) {
    for (const [row, spans] of frame.r) {
      if (!rows[row]) continue;
      rows[row].replaceChildren(...spans.map(([text, classes]) => el('span', { text, class: /^[a-z0-9 ]+$/.test(classes || '') ? classes : undefined })));
    }
    cursor.hidden = !frame.c;
    if (frame.c) {
      cursor.style.top = 'calc(.8rem + ' + 1.3 * frame.c[0] + 'em)';
      cursor.style.left = 'calc(1rem + ' + frame.c[1] + 'ch)';
    }
  }
  function show(time) {
    time = Math.min(Math.max(time, from), length);
    if (time < at) {
      rows.forEach(row => row.replaceChildren());
      shown = 0;
    }
    at = time;
    while (shown < film.frames.length && film.frames[shown].t <= at + 0.0051) put(film.frames[shown++]);
    seek.value = at;
    const words = clock(at) + ' of ' + clock(length);
    where.textContent = words;
    seek.setAttribute('aria-valuetext', words);
  }
  function stop() {
    clearInterval(timer);
    timer = 0;
    play.textContent = 'Play';
  }
  function start() {
    if (at >= length - 0.001) show(from);
    wall = performance.now();
    play.textContent = 'Pause';
    timer = setInterval(() => {
      const now = performance.now();
      let next = at + (now - wall) / 1000 * Number(speed.value);
      wall = now;
      const coming = film.frames[shown];
      // Skips a long time without changes, to a moment before the next change.
      if (pauses.checked && coming && coming.t - next > 1) next = coming.t - 0.3;
      else if (pauses.checked && !coming) next = length;
      show(next);
      if (at >= length) stop();
    }, 40);
  }
  const toggle = () => timer ? stop() : start();
  const play = el('button', { type: 'button', class: 'play', text: 'Play', on: { click: toggle } });
  const seek = el('input', { type: 'range', min: from, max: length, step: 'any', 'aria-label': 'position in the film', on: { input: () => { const to = Number(seek.value); stop(); show(to); } } });
  const where = el('output', { 'aria-live': 'off' });
  const speed = el('select', { 'aria-label': 'speed' }, ...[['0.5', '½×'], ['1', '1×'], ['2', '2×'], ['5', '5×'], ['20', '20×']].map(([value, text]) => el('option', { value, text, selected: value === '1' })));
  const pauses = el('input', { type: 'checkbox', checked: true });
  const box = el('div', { class: 'player', tabindex: '0', role: 'group', 'aria-label': 'film of the console of ' + label + '. Space plays and pauses, arrows move by 5 seconds, Home and End go to its ends.' },
    screen, el('div', { class: 'controls' }, play, seek, where, speed, el('label', {}, pauses, 'skip pauses')));
  box.addEventListener('keydown', event => {
    const on = event.target;
    if (event.altKey || event.ctrlKey || event.metaKey || on === speed) return;
    const to = { ArrowLeft: at - 5, ArrowRight: at + 5, Home: from, End: length }[event.key];
    if (to !== undefined) { show(to); event.preventDefault(); }
    else if (event.key === ' ' && (on === box || on === seek)) { toggle(); event.preventDefault(); }
  });
  // The last picture first, because it shows the moment of the failure.
  show(length);
  return { box, show: time => { stop(); show(time); box.scrollIntoView({ block: 'nearest' }); } };
}

// --- a scenario ---
function output(step) {
  const given = step.output;
  if (!given || !(given.stdout || given.stderr || given.status)) return null;
  const lines = (given.stdout + (given.stderr || '')).trimEnd().split('\n').length;
  const title = given.status ? 'output, status ' + given.status : 'output, ' + count(lines, 'line');
  const open = Boolean(given.status);
  const pre = el('pre', { tabindex: '0' });
  if (given.cut) pre.append('[' + given.cut + ' bytes are left out here]\n');
  pre.append(given.stdout || given.stderr ? given.stdout : '(it printed nothing)');
  if (given.stderr) pre.append(el('span', { class: 'err', text: given.stderr }));
  return el('details', { open }, el('summary', { text: title }), pre);
}
function steps(taken, machine, scenario, films) {
  const lines = data.sources[scenario.file] || {};
  // A machine that was started to make a template has no film. The films are those of the last starts.
  const unfilmed = Math.max(0, machine.started.length - films.length);
  const list = el('ol', { class: 'steps' });
  let last;
  for (const step of taken) {
    const start = machine.started.filter(time => time <= step.begun + 0.01);
    const at = Math.max(0, step.begun - (start.length ? start[start.length - 1] : machine.started[0] ?? step.begun));
    const film = films[Math.max(0, start.length - 1) - unfilmed];
    const when = film ? el('button', { type: 'button', class: 'at', text: seconds(at), 'aria-label': 'show the console at ' + seconds(at), on: { click: () => film.show(at) } }) : el('span', { class: 'at', text: seconds(at) });
    const source = step.line && step.line !== last ? el('code', { class: 'src', text: fileName(scenario.file) + ':' + step.line + (lines[step.line] ? '  ' + lines[step.line] : '') }) : null;
    last = step.line || last;
    const row = el('div', { class: 'step d' + Math.min(step.depth, 3) }, when, el('span', { class: 'what', text: step.text }), el('span', { class: 'num', text: step.took === null ? 'did not end' : seconds(step.took) }), source);
    list.append(el('li', {}, row, output(step)));
  }
  return list;
}
const FILES = { transcript: 'transcript', cast: 'asciicast', log: 'log with times', screen: 'last screen', screenshot: 'screenshot', journal: 'journal', moment: 'machine as it stood', packets: 'packets of a VLAN, for Wireshark' };
function filesView(files) {
  const link = file => address(file.path) && el('a', { href: address(file.path) + (file.kind === 'moment' ? '/' : '') }, el('code', { text: file.path }));
  const item = file => el('li', {}, FILES[file.kind] || file.kind, ': ', link(file) || el('code', { text: file.path }));
  return el('details', {}, el('summary', { text: count(files.length, 'file') + ' in the record' }), el('ul', { class: 'files' }, ...files.map(item)), el('p', { class: 'lost', text: 'They open where this page lies in the folder of the record.' }));
}
function machineView(machine, attempt, scenario) {
  const box = el('section', { class: 'machine' });
  const how = [machine.accelerator && machine.accelerator.toUpperCase() + pace(machine), machine.cloned ? 'clone of a template' : machine.started.length ? 'booted' : '', machine.stopped.length ? machine.stopped[machine.stopped.length - 1].how : ''].filter(Boolean);
  box.append(el('h3', { text: machine.name }, el('small', { text: how.join(' · ') })));
  const parts = pieces(machine, attemptEnd(attempt));
  if (parts.length) {
    const from = parts[0].from, to = parts[parts.length - 1].to;
    box.append(track(parts, from, to - from, 'phases: ' + lifeInWords(parts)), el('ul', { class: 'phases' }, ...parts.map(part => el('li', {}, el('i', { class: phaseClass(part.name) }), part.name + ' ' + seconds(part.to - part.from)))));
  }
  const transcripts = machine.files.filter(file => file.kind === 'transcript');
  const films = transcripts.map((file, index) => data.films[file.path] && player(data.films[file.path], titleOf(scenario) + ', ' + machine.name + (transcripts.length > 1 ? ', start ' + (index + 1) : '')));
  const own = machine.steps.filter(step => !step.afterwards), after = machine.steps.filter(step => step.afterwards);
  if (own.length) box.append(el('h4', { text: 'Steps' }), steps(own, machine, scenario, films));
  if (after.length) box.append(el('details', { class: 'after' }, el('summary', { text: 'Asked by nixvm-test when the scenario was over' }), steps(after, machine, scenario, films)));
  films.forEach((film, index) => {
    box.append(el('h4', { text: 'Console' + (films.length > 1 ? ', start ' + (index + 1) : '') }));
    if (!film) box.append(el('p', { class: 'lost', text: 'Its film is left out here, as it would make this page too large. `nixvm-test replay` plays it.' }));
    else {
      const left = data.films[transcripts[index].path].from;
      if (left) box.append(el('p', { class: 'lost', text: 'The film begins ' + seconds(left) + ' after the start: what was before is left out here.' }));
      box.append(film.box);
    }
  });
  const shots = machine.files.filter(file => file.kind === 'screenshot' && (data.images[file.path] || '').startsWith('data:image/png;base64,'));
  if (shots.length) box.append(el('h4', { text: 'Screenshots' }), el('div', { class: 'shots' }, ...shots.map(file => el('figure', {}, el('img', { src: data.images[file.path], alt: 'screen of ' + machine.name + ': ' + fileName(file.path) }), el('figcaption', { text: fileName(file.path) })))));
  for (const file of machine.files.filter(file => data.texts[file.path])) box.append(el('h4', { text: 'Journal' }), el('details', {}, el('summary', { text: fileName(file.path) }), el('pre', { tabindex: '0', text: data.texts[file.path] })));
  if (machine.files.length) box.append(filesView(machine.files));
  return box;
}
function attemptView(attempt, number, scenario) {
  const box = el('section', { class: 'attempt' });
  if (scenario.attempts.length > 1) box.append(el('h3', { text: 'Try ' + (number + 1) + ': ' + (attempt.failure ? 'failed' : attempt.took === null ? 'did not end' : 'passed') + (attempt.took === null ? '' : ' after ' + seconds(attempt.took)) }));
  if (attempt.failure) box.append(el('pre', { class: 'failure', tabindex: '0', role: 'region', 'aria-label': 'report of the failure', text: attempt.failure.report }));
  for (const note of attempt.notes) box.append(el('p', { class: 'where', text: note }));
  box.append(...attempt.machines.map(machine => machineView(machine, attempt, scenario)));
  if (attempt.faults.length || attempt.traffic.length) box.append(networkView(attempt, scenario));
  if (attempt.files.length) box.append(el('section', { class: 'machine' }, el('h3', { text: 'Packets' }), filesView(attempt.files)));
  return box;
}
function body(scenario) {
  const box = el('div', { class: 'body' });
  if (scenario.about) box.append(el('p', { text: scenario.about.trim() }));
  if (scenario.skipped !== null && !scenario.attempts.length) box.append(el('p', { text: 'Left out' + (scenario.skipped ? ': ' + scenario.skipped : '') }));
  if (scenario.file) box.append(el('p', { class: 'where' }, el('code', { text: scenario.file + ':' + scenario.line })));
  // The last try first, because it counts.
  box.append(...scenario.attempts.map((attempt, number) => attemptView(attempt, number, scenario)).reverse());
  return box;
}

const cards = [];
function scenarioCard(scenario, index) {
  const took = scenario.attempts.reduce((sum, attempt) => sum + (attempt.took || 0), 0);
  const id = 'scenario-' + index;
  const toggle = el('button', { type: 'button', class: 'toggle', 'aria-expanded': 'false', 'aria-controls': id },
    el('span', { class: 'tag ' + scenario.outcome, text: scenario.outcome }), el('span', { class: 'name', text: titleOf(scenario) }),
    el('span', { class: 'about', text: scenario.outcome === 'failed' ? scenario.attempts[scenario.attempts.length - 1].failure.summary : scenario.about.trim().split('\n')[0] }), el('span', { class: 'num', text: scenario.attempts.length ? seconds(took) : '' }));
  const inner = el('div', { id, hidden: true });
  let made = false;
  const open = wanted => {
    // Made when it is opened, because a page may have hundreds.
    if (wanted && !made) { inner.append(body(scenario)); made = true; }
    inner.hidden = !wanted;
    toggle.setAttribute('aria-expanded', String(wanted));
  };
  toggle.addEventListener('click', () => open(inner.hidden));
  const card = el('article', { class: 'card scenario' }, el('h2', {}, toggle), inner);
  const text = [titleOf(scenario), scenario.about, scenario.file, ...scenario.attempts.flatMap(attempt => [attempt.failure ? attempt.failure.report : '', ...attempt.machines.flatMap(machine => [machine.name, ...machine.steps.map(step => step.text)])])].join('\n').toLowerCase();
  cards.push({ card, scenario, text, open });
  return card;
}

function scenarios() {
  const section = document.getElementById('scenarios');
  const wanted = { outcome: 'all', text: '' };
  const said = el('p', { class: 'sr', role: 'status' });
  const empty = el('p', { class: 'empty', text: 'No scenario matches.', hidden: true });
  const names = ['all', ...OUTCOMES.filter(name => counts[name] || ['failed', 'passed', 'flaky', 'skipped'].includes(name))];
  const buttons = names.map(name => el('button', { type: 'button', 'aria-pressed': String(name === 'all'), 'data-outcome': name, on: { click: () => { wanted.outcome = name; filter(); } } }, name[0].toUpperCase() + name.slice(1), el('b', { text: name === 'all' ? run.scenarios.length : counts[name] })));
  const search = el('input', { type: 'search', placeholder: 'Name, step, failure …', 'aria-label': 'show scenarios with this text', on: { input: () => { wanted.text = search.value.trim().toLowerCase(); filter(); } } });
  function filter() {
    let number = 0;
    const visible = cards.map(({ card, scenario, text }) => {
      const shown = (wanted.outcome === 'all' || scenario.outcome === wanted.outcome) && text.includes(wanted.text);
      card.hidden = !shown;
      number += shown;
      return shown;
    });
    lanes.forEach(({ lane, index }) => { lane.hidden = !visible[index]; });
    buttons.forEach(button => button.setAttribute('aria-pressed', String(button.dataset.outcome === wanted.outcome)));
    empty.hidden = number > 0;
    said.textContent = count(number, 'scenario') + ' shown';
  }
  section.append(el('h2', { id: 'scenarios-title', class: 'sr', text: 'Scenarios' }), el('div', { class: 'filters', role: 'group', 'aria-label': 'filters' }, ...buttons, search), said);
  const order = run.scenarios.map((scenario, index) => ({ scenario, index })).sort((one, other) => OUTCOMES.indexOf(one.scenario.outcome) - OUTCOMES.indexOf(other.scenario.outcome) || one.index - other.index);
  const made = new Map(run.scenarios.map((scenario, index) => [index, scenarioCard(scenario, index)]));
  section.append(...order.map(({ index }) => made.get(index)), empty);
  const failed = cards.filter(({ scenario }) => scenario.outcome === 'failed');
  (failed.length ? failed.slice(0, 3) : cards.length === 1 ? cards : []).forEach(({ open }) => open(true));
}

head();
timeline();
scenarios();
