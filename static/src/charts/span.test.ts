import assert from 'node:assert/strict'
import { test } from 'node:test'
import { finenessWords, spanOf } from './span.ts'

test('a range ends now and moves, a fixed window does neither', () => {
  const span = spanOf({ range: '1y' }, 1_700_000_000_000)
  assert.equal(span.toMs - span.fromMs, 365 * 86_400_000)
  assert.ok(span.toMs >= 1_700_000_000_000 && span.moving)
  assert.deepEqual(spanOf({ fromMs: 5, toMs: 9 }, 100), { fromMs: 5, toMs: 9, moving: false })
})

test('how fine a chart is is said', () => {
  assert.equal(finenessWords({ resolution: 'raw', resolutionSec: 0, minima: {} }), 'each point is one sample')
  assert.equal(finenessWords({ resolution: 'raw', resolutionSec: 30, minima: { cpu: [1] } }), 'each point is 30 s, from samples; band: lowest to highest')
  assert.equal(finenessWords({ resolution: '1h', resolutionSec: 43_200, minima: {} }), 'each point is 12 h, from records of 1 h')
})
