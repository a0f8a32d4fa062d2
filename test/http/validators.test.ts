import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as fc from "fast-check"
import { createHash } from "node:crypto"
import * as validators from "../../src/http/validators.js"

const policy: validators.Policy = { confirmRemovals: 1, maxPreviousBytes: 1024, revalidateMillis: null }
const now = Date.UTC(2021, 0, 1)
const at = (millis: number): string => new Date(millis).toUTCString()

const answer = (status: number, headers: validators.ResponseHeaders = {}, text?: string): validators.Answer => {
  const bytes = new TextEncoder().encode(text ?? "")
  const body = text === undefined ? null : { bytes, hash: createHash("sha256").update(bytes).digest("hex") }
  return { status, headers, location: null, body }
}

const decide = (state: validators.DocumentState, given: validators.Answer, use: Partial<validators.Policy> = {}) =>
  validators.decide("doc", state, given, now, { ...policy, ...use })

/** What a consumer has after the changes, and what it was told. */
const run = (answers: ReadonlyArray<validators.Answer>, use: Partial<validators.Policy> = {}) => {
  let state = validators.initial
  let view: string | undefined
  const told: Array<string> = []
  const states = [state]
  for (const given of answers) {
    const decision = decide(state, given, use)
    if (decision._tag === "Observed") {
      for (const change of decision.changes) {
        told.push(change._tag)
        const text = change._tag === "Removed" ? undefined : new TextDecoder().decode(change.value.body)
        if (change._tag === "Added") assert.isUndefined(view)
        if (change._tag === "Modified") assert.notStrictEqual(view, text)
        if (change._tag !== "Added") {
          assert.strictEqual(
            Option.getOrThrow(Option.map(change.previous, (_) => new TextDecoder().decode(_.body))),
            view
          )
        }
        view = text
      }
      state = decision.state
    }
    states.push(state)
  }
  return { view, told, state, states }
}

const contentStatus = fc.constantFrom(200, 203)
const goneStatus = fc.constantFrom(404, 410)
const failedStatus = fc
  .integer({ min: 201, max: 599 })
  .filter((status) => ![203, 304, 404, 410].includes(status) && !(status >= 300 && status < 400))
const text = fc.constantFrom("a", "b", "c")
const strong = fc.option(fc.constantFrom('"1"', '"2"'), { nil: undefined })
const headers = strong.map((etag): validators.ResponseHeaders => (etag === undefined ? {} : { etag }))

const contentAnswer = fc.tuple(contentStatus, headers, text).map(([status, sent, body]) => answer(status, sent, body))
const goneAnswer = fc.tuple(goneStatus, headers).map(([status, sent]) => answer(status, sent))
const failedAnswer = fc.tuple(failedStatus, headers).map(([status, sent]) => answer(status, sent))
const anyAnswer = fc.oneof(contentAnswer, goneAnswer, failedAnswer)

describe("validators", () => {
  it("H1 H3 the consumer always has the last content, and no change is told twice", () => {
    fc.assert(
      fc.property(fc.array(anyAnswer, { maxLength: 30 }), (answers) => {
        const { view } = run(answers)
        const last = answers.filter(({ status, body }) => body !== null || validators.isGone(status)).at(-1)
        const expected =
          last === undefined || last.body === null ? undefined : new TextDecoder().decode(last.body.bytes)
        assert.strictEqual(view, expected)
      })
    )
  })

  it("H1 failed answers between others change nothing, not even the count of missing ones", () => {
    fc.assert(
      fc.property(
        fc.array(anyAnswer, { maxLength: 30 }),
        fc.integer({ min: 1, max: 4 }),
        (answers, confirmRemovals) => {
          const without = answers.filter(({ status, body }) => body !== null || validators.isGone(status))
          const one = run(answers, { confirmRemovals })
          const other = run(without, { confirmRemovals })
          assert.deepStrictEqual([one.told, one.state], [other.told, other.state])
        }
      )
    )
  })

  it("H1 removes after exactly n missing answers in a row", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 0, max: 10 }), (confirmRemovals, misses) => {
        const gone = Array.from({ length: misses }, () => answer(404))
        const { told, state } = run([answer(200, {}, "a"), ...gone], { confirmRemovals })
        assert.deepStrictEqual(told, misses >= confirmRemovals ? ["Added", "Removed"] : ["Added"])
        assert.strictEqual(state.misses, misses >= confirmRemovals ? 0 : misses)
      })
    )
  })

  it("H1 other 2xx, 304 in the wrong place and errors are failures or questions, never content", () => {
    fc.assert(
      fc.property(failedStatus, text, (status, body) => {
        const known = run([answer(200, { etag: '"1"' }, "a")]).state
        assert.strictEqual(decide(known, answer(status, { etag: '"2"' }, body))._tag, "Failure")
      })
    )
    assert.deepStrictEqual(decide(validators.initial, answer(304)), { _tag: "AskAgain" })
  })

  it("H2 sends back exactly the bytes of the last content's ETag", () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1 }), (etag) => {
        const { state } = run([answer(200, { etag, "last-modified": at(now), date: at(now + 5000) }, "a")])
        assert.deepStrictEqual(validators.conditions(state, now, null).headers, { "if-none-match": etag })
      })
    )
  })

  it("H2 takes Last-Modified for a validator exactly when Date is a second or more later", () => {
    fc.assert(
      fc.property(fc.integer({ min: -5, max: 5 }), (seconds) => {
        const sent = { "last-modified": at(now), date: at(now + seconds * 1000) }
        const { state } = run([answer(200, sent, "a")])
        assert.deepStrictEqual(
          validators.conditions(state, now, null).headers,
          seconds >= 1 ? { "if-modified-since": at(now) } : {}
        )
      })
    )
    assert.isNull(validators.usableLastModified({ "last-modified": at(now) }))
    assert.isNull(validators.usableLastModified({ "last-modified": "yesterday", date: at(now) }))
  })

  it("H2 a 304 keeps the content and refreshes the validators", () => {
    const { state } = run([answer(200, { etag: '"1"' }, "a")])
    const same = decide(state, answer(304, { etag: '"1"' }))
    assert.isTrue(same._tag === "Observed" && same.state === state && same.changes.length === 0)
    const other = decide(state, answer(304, { etag: '"2"', "last-modified": at(now), date: at(now + 1000) }))
    assert.isTrue(other._tag === "Observed" && other.state.etag === '"2"' && other.state.lastModified === at(now))
    const elsewhere = decide(state, { ...answer(304, { etag: '"2"' }), location: "other" })
    assert.isTrue(elsewhere._tag === "Observed" && elsewhere.state === state)
  })

  it("H3 equal bytes are no change under any tags; an equal weak tag is none under any bytes", () => {
    const tag = fc.option(fc.constantFrom('"1"', 'W/"1"', '"1-gzip"', ""), { nil: undefined })
    fc.assert(
      fc.property(tag, tag, text, text, (before, after, one, other) => {
        const sent = (etag: string | undefined) => (etag === undefined ? {} : { etag })
        const { told, state } = run([answer(200, sent(before), one), answer(200, sent(after), other)])
        const equivalent = one === other || (before === 'W/"1"' && after === before)
        assert.deepStrictEqual(told, equivalent ? ["Added"] : ["Added", "Modified"])
        assert.strictEqual(state.etag, after ?? null)
      })
    )
  })

  it("H3 an equal weak tag of another address says nothing", () => {
    const weak = { etag: 'W/"1"' }
    const { told } = run([answer(200, weak, "a"), { ...answer(200, weak, "b"), location: "other" }])
    assert.deepStrictEqual(told, ["Added", "Modified"])
  })

  it("H3 the same answer again gives the same state back, also later", () => {
    fc.assert(
      fc.property(contentAnswer, fc.nat(), (given, later) => {
        const { state } = run([given])
        const again = validators.decide("doc", state, given, now + later, policy)
        assert.isTrue(again._tag === "Observed" && again.state === state)
      })
    )
  })

  it("H4 only content leaves validators", () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(goneAnswer, failedAnswer), { maxLength: 10 }), (answers) => {
        assert.strictEqual(run(answers).state, validators.initial)
      })
    )
  })

  it("H5 sends no validators when a full answer is due", () => {
    fc.assert(
      fc.property(fc.nat(1000), fc.integer({ min: 1, max: 1000 }), (elapsed, revalidateMillis) => {
        const { state } = run([answer(200, { etag: '"1"' }, "a")], { revalidateMillis })
        const { headers: sent } = validators.conditions(state, now + elapsed, revalidateMillis)
        assert.deepStrictEqual(sent, elapsed >= revalidateMillis ? {} : { "if-none-match": '"1"' })
      })
    )
  })

  it("H6 HTTP dates round-trip in all three forms, and nothing else is one", () => {
    const seconds = fc.integer({ min: 0, max: 4_000_000_000 })
    fc.assert(
      fc.property(seconds, (value) => {
        const date = new Date(value * 1000)
        const fixed = date.toUTCString()
        assert.strictEqual(validators.parseHttpDate(fixed), value * 1000)
        const [, day, month, year, time] = fixed.split(/,? /)
        const asctime = `Fri ${month} ${day!.replace(/^0/, " ")} ${time} ${year}`
        assert.strictEqual(validators.parseHttpDate(asctime), value * 1000)
        if (date.getUTCFullYear() < 2070) {
          const rfc850 = `Wednesday, ${day}-${month}-${year!.slice(2)} ${time} GMT`
          assert.strictEqual(validators.parseHttpDate(rfc850), value * 1000)
        }
      })
    )
    for (const garbage of [
      "",
      "0",
      "2021",
      "2021-01-01T00:00:00Z",
      "Fri, 31 Feb 2021 00:00:00 GMT",
      "Fri, 00 Jan 2021 00:00:00 GMT",
      "Fri, 01 Jan 2021 24:00:00 GMT",
      "Fri, 01 Foo 2021 00:00:00 GMT",
      "Fri, 01 Jan 2021 00:00:00 CET"
    ]) {
      assert.isUndefined(validators.parseHttpDate(garbage), garbage)
    }
  })

  it("H6 Retry-After is never negative, never more than a year, and a date counts from the answer's Date", () => {
    fc.assert(
      fc.property(fc.string(), fc.option(fc.string(), { nil: undefined }), (value, date) => {
        const wait = validators.retryAfterMillis({ "retry-after": value, date }, now)
        assert.isTrue(wait === undefined || (wait >= 0 && wait <= 365 * 86_400_000))
      })
    )
    fc.assert(
      fc.property(fc.integer({ min: -1000, max: 1000 }), fc.integer({ min: -1_000_000, max: 0 }), (seconds, skew) => {
        const date = now + skew * 1000
        const sent = { "retry-after": at(date + seconds * 1000), date: at(date) }
        assert.strictEqual(validators.retryAfterMillis(sent, now), Math.max(0, seconds * 1000))
      })
    )
    const failed = validators.statusFailure(503, { "retry-after": "7" }, now)
    assert.deepStrictEqual(failed.retryAfter, Duration.seconds(7))
  })

  it("state survives its codec, and a rewound one still knows that there is something", () => {
    const known = run([answer(200, { etag: '"1"' }, "a")]).state
    const codec = Schema.parseJson(validators.DocumentState)
    const back = Schema.decodeSync(codec)(Schema.encodeSync(codec)(known))
    assert.strictEqual(back.hash, known.hash)
    assert.strictEqual(new TextDecoder().decode(back.item!.body), "a")
    const rewound = validators.rewind(known)
    assert.deepStrictEqual(validators.conditions(rewound, now, null), validators.unconditional)
    const again = decide(rewound, answer(200, { etag: '"1"' }, "a"))
    assert.isTrue(again._tag === "Observed" && again.changes[0]?._tag === "Modified")
    const gone = decide(rewound, answer(404))
    assert.isTrue(gone._tag === "Observed" && gone.changes[0]?._tag === "Removed")
    assert.deepStrictEqual(decide(rewound, answer(304)), { _tag: "AskAgain" })
    assert.deepStrictEqual(validators.rewind(validators.initial), validators.initial)
  })
})
