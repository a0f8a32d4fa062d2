import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import type { ChangeLog } from "effect-periscope/log"
import * as position from "../../src/log/position.js"

const cursor = (seq: number, xid?: number, atMillis?: number): ChangeLog.Cursor => ({
  seq: BigInt(seq),
  ...(xid === undefined ? {} : { xid: BigInt(xid) }),
  ...(atMillis === undefined ? {} : { atMillis })
})
const nothing: position.Bounds = { found: undefined, floor: undefined, head: undefined, oldest: undefined }
const anyCursor = fc.tuple(fc.nat(9), fc.nat(9)).map(([seq, xid]) => cursor(seq, xid))

describe("places in a log", () => {
  it("are in one order: by transaction, then by number", () => {
    fc.assert(
      fc.property(anyCursor, anyCursor, anyCursor, (a, b, c) => {
        const same = a.seq === b.seq && a.xid === b.xid
        assert.strictEqual(Number(position.isBefore(a, b)) + Number(position.isBefore(b, a)), same ? 0 : 1)
        assert.strictEqual(position.isSame(a, b), same)
        if (position.isBefore(a, b) && position.isBefore(b, c)) assert.isTrue(position.isBefore(a, c))
      })
    )
    assert.isTrue(position.isBefore(cursor(9, 1), cursor(2, 2)))
    // one was read by number alone
    assert.isTrue(position.isBefore(cursor(1), cursor(2, 1)))
  })

  it("L6 expire for the first reason there is, and for nothing else", () => {
    const at = cursor(5, 7, 100)
    const why = (bounds: Partial<position.Bounds>, isDense = false) =>
      position.expiry(at, { ...nothing, ...bounds }, isDense)
    assert.isUndefined(why({}))
    assert.isUndefined(why({ floor: at, found: at, head: cursor(5), oldest: cursor(6) }, true))
    assert.isUndefined(why({ floor: cursor(9, 6), head: cursor(5) }), "a greater number of an older transaction")
    assert.isUndefined(why({ oldest: cursor(50) }), "a gap alone proves nothing")
    assert.strictEqual(why({ floor: cursor(1, 8), found: cursor(5, 9) }), "it was pruned")
    assert.match(why({ found: cursor(5, 8) })!, /^another entry has its number now/)
    assert.match(why({ found: cursor(5, 7, 101) })!, /^another entry has its number now/)
    assert.match(why({ head: cursor(4), why: "else" })!, /^the log ends before it/)
    assert.match(why({ oldest: cursor(7) }, true)!, /are missing$/)
    assert.strictEqual(why({ why: "else" }), "else")
  })
})
