import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ago, brief, bytes, count, duration, exact, exactWithZone, percent, rate, fieldOfTime, timeOfField, zoneWords } from './format.ts'

test('bytes are binary and never show 1024 of a unit', () => {
  assert.deepEqual([0, 1023, 1024, 1536, 1024 ** 2 - 1, 17_179_869_184].map(bytes), [
    '0 B',
    '1023 B',
    '1.00 KiB',
    '1.50 KiB',
    '1.00 MiB',
    '16.0 GiB',
  ])
  assert.equal(bytes(null), '–')
})

test('rates are decimal', () => {
  assert.deepEqual([999, 1200, 12_345_678].map(rate), ['999 B/s', '1.20 kB/s', '12.3 MB/s'])
})

test('percent has one digit but at full', () => {
  assert.deepEqual([0, 12.34, 99.94, 99.96, 100].map(percent), ['0.0%', '12.3%', '99.9%', '100%', '100%'])
})

test('durations name their two largest units', () => {
  assert.deepEqual([5, 65, 700, 3600, 7260, 90_000, 86_400 * 40].map(duration), [
    '5 s',
    '1 min 5 s',
    '11 min',
    '1 h',
    '2 h 1 min',
    '1 d 1 h',
    '40 d',
  ])
})

test('ages are in one unit; a clock ahead of us is now', () => {
  assert.equal(ago(10_000, 5_000), 'now')
  assert.equal(ago(0, 59_000), '59 s ago')
  assert.equal(ago(null, 0), 'never')
  assert.equal(brief(7_200), '2 h')
})

test('one machine, two machines', () => {
  assert.equal(count(1, 'machine'), '1 machine')
  assert.equal(count(0, 'machine'), '0 machines')
  assert.equal(count(2, 'entry', 'entries'), '2 entries')
})

test('a zone is told as it is apart from UTC', () => {
  assert.deepEqual([0, -60, 210, -345].map(zoneWords), ['UTC', 'UTC+01:00', 'UTC-03:30', 'UTC+05:45'])
  assert.ok(exactWithZone(0).startsWith(`${exact(0)} UTC`))
  assert.equal(exactWithZone(null), 'never')
})

test('a field of time holds what it was given, to the minute', () => {
  const ms = new Date(2026, 2, 1, 4, 5).getTime()
  assert.equal(fieldOfTime(ms), '2026-03-01T04:05')
  assert.equal(timeOfField(fieldOfTime(ms)), ms)
  assert.equal(fieldOfTime(null), '')
  assert.equal(timeOfField(''), null)
})
