import { assert, describe, it } from "@effect/vitest"
import { Change } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import type { ObjectStore } from "effect-periscope/objects"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { Found } from "../../src/cli/line.js"
import * as line from "../../src/cli/line.js"
import * as pretty from "../../src/cli/pretty.js"
import { Screen } from "../../src/cli/screen.js"
import * as statusLine from "../../src/cli/statusLine.js"
import * as text from "../../src/cli/text.js"
import * as value from "../../src/cli/value.js"

const item = (body: string | Uint8Array, contentType = "application/json", status = 200): HttpSource.HttpItem =>
  new HttpSource.HttpItem({
    url: "http://h/doc?sec-query",
    status,
    etag: Option.none(),
    lastModified: Option.none(),
    contentType: Option.some(contentType),
    body: typeof body === "string" ? new TextEncoder().encode(body) : body
  })

const found = (change: Change.Change<HttpSource.HttpItem>, redelivered = false): Found => ({
  id: "id",
  source: "doc",
  observedAt: new Date(2026, 0, 2, 3, 4, 5).getTime(),
  redelivered,
  change
})

const key = "http://h/doc?sec-query"
const added = (value: HttpSource.HttpItem) => found(Change.added(key, value))
const modified = (before: HttpSource.HttpItem, after: HttpSource.HttpItem) =>
  found(Change.modified(key, after, Option.some(before)))

describe("line", () => {
  it("keeps numbers and strings of JSON as they were sent, on one line", () => {
    const json = ' {\n\t"a" : 12345678901234567890.10 ,"b":"x \\" \\\\ y",\r\n"c":[ 1e400, true ]} '
    assert.strictEqual(value.minified(json), '{"a":12345678901234567890.10,"b":"x \\" \\\\ y","c":[1e400,true]}')
    assert.notInclude(line.encode(added(item(json))), "\n")
  })

  it("leaves out what is absent, and says of a redelivery that it is one", () => {
    const gone = line.encode(found(Change.removed(key), true))
    assert.deepStrictEqual(Object.keys(JSON.parse(gone)), ["id", "type", "source", "key", "observedAt", "redelivered"])
    assert.deepStrictEqual(Object.keys(JSON.parse(line.encode(added(item("x", "text/plain")))).value), [
      ...["url", "status", "contentType", "body"]
    ])
  })

  it("takes the body by its type and bytes", () => {
    const bodies: ReadonlyArray<readonly [string | Uint8Array, string, Readonly<Record<string, unknown>>]> = [
      ["[1]", "application/json; charset=utf-8", { json: [1] }],
      ["[1]", "application/problem+JSON", { json: [1] }],
      ["[1]", "text/plain", { body: "[1]" }],
      ["\ufeff[1]", "text/json", { json: [1] }],
      ["\ufeffx", "text/plain", { body: "\ufeffx" }],
      ["[1", "application/json", { body: "[1" }],
      ["", "application/json", { body: "" }],
      [new Uint8Array([0xc3]), "text/plain", { bodyBase64: "ww==" }]
    ]
    for (const [body, type, expected] of bodies) {
      const {
        contentType: _,
        status: _status,
        url: _url,
        ...rest
      } = JSON.parse(line.encode(added(item(body, type)))).value
      assert.deepStrictEqual(rest, expected)
    }
  })
})

/** A time here, as the line shows it. */
const writtenAt = new Date(2026, 0, 2, 3, 4, 5, 678).getTime()
const meta = (more: Partial<ObjectStore.ObjectMeta> = {}): ObjectStore.ObjectMeta => ({
  key: "conf/a",
  size: 1200,
  ...more
})

describe("line of an object", () => {
  const foundObject = (change: Change.Change<ObjectStore.ObjectMeta>): Found => ({
    id: "id",
    source: "b",
    observedAt: 0,
    redelivered: false,
    change
  })

  it("has what the store has, its time as ISO-8601, and leaves out what is absent", () => {
    const whole = meta({ etag: '"1"', lastModifiedMillis: 0, version: "7" })
    const observed = '"observedAt":"1970-01-01T00:00:00.000Z"}'
    const all = '{"key":"conf/a","size":1200,"etag":"\\"1\\"","lastModified":"1970-01-01T00:00:00.000Z","version":"7"}'
    assert.strictEqual(
      line.encode(foundObject(Change.modified("conf/a", whole, Option.some(meta())))),
      `{"id":"id","type":"Modified","source":"b","key":"conf/a","value":${all},"previous":{"key":"conf/a","size":1200},${observed}`
    )
    assert.strictEqual(
      line.encode(foundObject(Change.removed("conf/a"))),
      `{"id":"id","type":"Removed","source":"b","key":"conf/a",${observed}`
    )
    // what no date can be is left out
    const odd = line.encode(foundObject(Change.added("conf/a", meta({ lastModifiedMillis: 1e300 }))))
    assert.deepStrictEqual(JSON.parse(odd).value, { key: "conf/a", size: 1200 })
  })

  it("is shown to people with its size and time, and what of them changed", () => {
    const look: pretty.Look = { paint: text.plain, columns: Infinity, nameColumns: 1, keyColumns: 0 }
    const modified = (before: ObjectStore.ObjectMeta | undefined, after: ObjectStore.ObjectMeta) =>
      Change.modified("conf/a", after, Option.fromNullable(before))
    const shown = [
      Change.added("conf/a", meta({ lastModifiedMillis: writtenAt })),
      Change.added("conf/a\n", meta({ size: 0, etag: '"1"' })),
      modified(meta(), meta({ size: 34, lastModifiedMillis: writtenAt })),
      modified(meta(), meta({ size: 1201 })),
      modified(meta(), meta({ lastModifiedMillis: writtenAt })),
      modified(undefined, meta()),
      Change.removed("conf/a", Option.some(meta())),
      Change.removed<ObjectStore.ObjectMeta>("conf/a")
    ].map((change) => pretty.format(foundObject(change), look).slice("00:00:00 ".length))
    assert.deepStrictEqual(shown, [
      "+ b  conf/a  appeared: 1.2 kB, written 2026-01-02 03:04:05",
      "+ b  conf/a   appeared: 0 B",
      "~ b  conf/a  1.2 kB → 34 B, written 2026-01-02 03:04:05",
      "~ b  conf/a  1200 → 1201 B",
      "~ b  conf/a  1.2 kB as before, written 2026-01-02 03:04:05",
      "~ b  conf/a  changed: 1.2 kB",
      "- b  conf/a  gone, was 1.2 kB",
      "- b  conf/a  gone"
    ])
  })
})

describe("pretty", () => {
  const look: pretty.Look = { paint: text.plain, columns: Infinity, nameColumns: 5, keyColumns: 4 }

  it("says what changed, and no query", () => {
    const lines = [
      added(item('{"a":1}')),
      added(item("x".repeat(3000), "text/html", 203)),
      modified(item('{"a":1,"b":{"c":[1,2]},"d":0}'), item('{"a":2,"b":{"c":[1,3]},"e":"x"}')),
      modified(item("[1,2,3,4]"), item('{"a":null}')),
      modified(item("one\ntwo", "text/plain"), item("one\n2", "text/plain")),
      found(Change.modified(key, item("[]"))),
      found(Change.removed(key, Option.some(item("[]"))), true)
    ].map((found) => pretty.format(found, look))
    assert.deepStrictEqual(lines, [
      '03:04:05 + doc    /doc  appeared: application/json 7 B {"a":1}',
      "03:04:05 + doc    /doc  appeared: 203 text/html 3 kB",
      '03:04:05 ~ doc    /doc  a: 1 → 2, b.c.1: 2 → 3, +e: "x", -d',
      '03:04:05 ~ doc    /doc  [4 items] → {"a":null}',
      '03:04:05 ~ doc    /doc  7 B → 5 B, line 2: "two" → "2"',
      "03:04:05 ~ doc    /doc  changed: application/json 2 B",
      "03:04:05 - doc    /doc  gone, was application/json 2 B (again)"
    ])
  })

  it("fits a narrow terminal, and what was sent cannot steer it", () => {
    const evil = modified(item('{"a":"\\u001b[2J"}'), item('{"a":"世界 \\u009b31m"}'))
    for (const columns of [20, 30, 60, 80]) {
      const shown = pretty.format(evil, { ...look, columns })
      assert.isAtMost(text.width(shown), columns)
      assert.notMatch(shown, /[\u0000-\u001f\u007f-\u009f]/)
    }
    const colours = pretty.format(evil, { ...look, columns: 60, paint: text.coloured })
    assert.strictEqual(text.width(colours), text.width(pretty.format(evil, { ...look, columns: 60 })))
  })

  it("names at most five differences", () => {
    const numbers = (n: number): unknown => Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`k${i}`, i + n]))
    assert.strictEqual(pretty.differences(numbers(0), numbers(1)).at(-1), "and 3 more")
    assert.deepStrictEqual(pretty.differences({ a: [1] }, { a: [1] }), [])
  })
})

describe("status line", () => {
  const now = 1_000_000
  const entry = (name: string, phase: statusLine.Entry["phase"], command: statusLine.Command = { _tag: "Idle" }) => ({
    name,
    phase,
    command
  })
  const live = (name: string) => entry(name, { _tag: "Live", nextPollAt: Option.some(now + 11_500) })
  const failing = (name: string, message: string) =>
    entry(name, { _tag: "Backoff", attempt: 3, until: now + 2000, error: Cause.fail(new Error(message)) })
  const plain = (entries: ReadonlyArray<statusLine.Entry>, columns = 200) =>
    statusLine.format(entries, now, columns, text.plain)

  it("says what each source does", () => {
    assert.strictEqual(plain([entry("a", { _tag: "Starting" })]), "◌ a starting")
    assert.strictEqual(plain([live("a")]), "● a live, next poll in 12 s")
    assert.strictEqual(plain([entry("a", { _tag: "Live", nextPollAt: Option.some(now) })]), "● a live, polling")
    assert.strictEqual(plain([entry("a", { _tag: "Live", nextPollAt: Option.none() })]), "● a live")
    assert.strictEqual(plain([failing("a", "a is down")]), "▲ a failed 3 times, again in 2 s: is down")
    assert.strictEqual(
      plain([entry("a", { _tag: "Stopped", error: Option.some(Cause.fail(new Error("gone"))) })]),
      "✕ a failed: gone"
    )
    assert.strictEqual(plain([entry("a", { _tag: "Stopped", error: Option.none() })]), "○ a done")
    const phase = live("a").phase
    assert.strictEqual(
      plain([entry("a", phase, { _tag: "Waiting", attempt: 1, until: now + 900, problem: "exited with 1" })]),
      "▲ a command failed once, again in 1 s: exited with 1"
    )
    assert.strictEqual(plain([entry("a", phase, { _tag: "Running", since: now - 3400 })]), "◌ a runs the command (3 s)")
  })

  it("says how far a long listing is, and what is held back until when", () => {
    const listing = (phase: statusLine.Entry["phase"]) => plain([{ ...entry("b", phase), listed: 12_000 }])
    assert.strictEqual(listing({ _tag: "Starting" }), "◌ b listing, 12,000 so far")
    assert.strictEqual(listing({ _tag: "Live", nextPollAt: Option.none() }), "◌ b listing, 12,000 so far")
    assert.strictEqual(listing(failing("b", "x").phase), "▲ b failed 3 times, again in 2 s: x")
    const plan = { count: 4000, keys: [], listings: 1, confirmListings: 3 }
    const guarded = (more: Partial<typeof plan> = {}) =>
      plain([entry("b", { _tag: "Guarded", plan: { ...plan, ...more }, nextPollAt: Option.some(now + 11_500) })])
    assert.strictEqual(guarded(), "■ b holds 4,000 removals back (1 of 3 listings), next poll in 12 s")
    assert.strictEqual(
      guarded({ count: 1, listings: 2 }),
      "■ b holds 1 removal back (2 of 3 listings), next poll in 12 s"
    )
  })

  it("never is wider than the terminal", () => {
    const many = [live("first"), failing("second", "a reason that is long"), live("third")]
    assert.include(plain(many), "● first live, next poll in 12 s   ▲ second failed")
    assert.include(plain(many, 110), "third")
    assert.notInclude(plain(many, 110), "reason")
    assert.strictEqual(plain(many, 60), "● first 12 s   ▲ second 2 s   ● third 12 s")
    assert.strictEqual(plain([...many, ...many], 60), "● 4 live   ▲ 2 retrying   next poll in 2 s")
    for (let columns = 0; columns < 120; columns++) {
      for (const entries of [many, [failing("世界", "x".repeat(100))]]) {
        assert.isAtMost(text.width(statusLine.format(entries, now, columns, text.coloured)), columns)
      }
    }
  })
})

describe("Screen", () => {
  /** Two outputs that are one terminal, or two pipes. */
  const outputs = (isTTY: boolean) => {
    let shown = ""
    const output = {
      isTTY: isTTY as true,
      columns: 40,
      on: () => output,
      write: (text: string, done?: unknown) => {
        shown += text
        if (typeof done === "function") done()
        return true
      }
    } as unknown as NodeJS.WriteStream
    return { output, shown: () => shown }
  }

  it.effect("removes the status line before a line is printed and at the end", () =>
    Effect.gen(function* () {
      const { output, shown } = outputs(true)
      const screen = new Screen(output, output, {})
      screen.show("status")
      screen.show("status")
      yield* screen.write("line\n")
      screen.note("note\n")
      screen.show("")
      const erase = "\r\u001b[2K"
      assert.strictEqual(shown(), `status${erase}line\nstatus${erase}note\nstatus${erase}`)
    })
  )

  it("has neither status line nor colours where there is no terminal, or where they are not wanted", () => {
    const { output, shown } = outputs(false)
    const piped = new Screen(output, output, {})
    piped.show("status")
    assert.strictEqual(shown(), "")
    assert.deepStrictEqual(piped.hasColour, { stdout: false, stderr: false })
    const terminal = outputs(true).output
    assert.deepStrictEqual(new Screen(terminal, terminal, {}).hasColour, { stdout: true, stderr: true })
    assert.deepStrictEqual(new Screen(terminal, terminal, { NO_COLOR: "1" }).hasColour, {
      stdout: false,
      stderr: false
    })
    assert.isFalse(new Screen(terminal, terminal, { TERM: "dumb" }).hasStatus)
  })

  it.effect("tells a closed output from a full disk", () =>
    Effect.gen(function* () {
      const failing = (code: string) => {
        const output = outputs(false).output
        output.write = ((_: string, done: (error: Error) => void) =>
          done(Object.assign(new Error(), { code }))) as never
        return Effect.exit(new Screen(output, output, {}).write("x"))
      }
      const closed = yield* failing("EPIPE")
      const full = yield* failing("ENOSPC")
      const isClosed = (exit: typeof closed) =>
        Exit.match(exit, {
          onSuccess: () => undefined,
          onFailure: (cause) => Option.getOrThrow(Cause.failureOption(cause)).isClosed
        })
      assert.deepStrictEqual([isClosed(closed), isClosed(full)], [true, false])
    })
  )
})
