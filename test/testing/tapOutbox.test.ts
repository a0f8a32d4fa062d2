/**
 * Goal: the double of a Tap server keeps the rules of the real one (S4, S6, S8).
 *
 * Method: the cases of the server's own tests, then random histories against the rules themselves.
 */
import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { Outbox } from "../../src/testing/tapOutbox.js"

const make = (options: { readonly outgoing?: number; readonly deleteBatch?: number } = {}) => {
  const time = { now: 0 }
  const outbox = new Outbox(
    { retryTimeoutMillis: 100, deleteBatch: 1000, outgoing: 10_000, ...options },
    () => time.now
  )
  const add = (did: string, ...kinds: ReadonlyArray<"H" | "L">): ReadonlyArray<number> =>
    kinds.map((kind) => outbox.add({ did, live: kind === "L", frame: String }))
  const taken = (): ReadonlyArray<number> => {
    const ids: Array<number> = []
    for (let row = outbox.take(); row !== undefined; row = outbox.take()) ids.push(row.id)
    return ids
  }
  return { outbox, time, add, taken }
}

describe("tapOutbox", () => {
  it("S6 sends H1 H2 at once, then L1 alone, H3 H4 at once, L2 alone, H5", () => {
    const { add, outbox, taken } = make()
    add("did:a", "H", "H", "L", "H", "H", "L", "H")
    assert.deepStrictEqual(taken(), [1, 2])
    outbox.ack(1)
    assert.deepStrictEqual(taken(), [])
    outbox.ack(2)
    assert.deepStrictEqual(taken(), [3])
    outbox.ack(3)
    assert.deepStrictEqual(taken(), [4, 5])
    outbox.ack(5)
    outbox.ack(4)
    assert.deepStrictEqual(taken(), [6])
    outbox.ack(6)
    assert.deepStrictEqual(taken(), [7])
    outbox.ack(7)
    assert.strictEqual(outbox.unacked, 0)
  })

  it("S6 holds nothing back between DIDs", () => {
    const { add, taken } = make()
    add("did:a", "L", "L")
    add("did:b", "L", "L")
    assert.deepStrictEqual(taken(), [1, 3])
  })

  it("S6 holds history back behind a live event that was the first of its DID", () => {
    const { add, outbox, taken } = make()
    add("did:a", "L")
    assert.deepStrictEqual(taken(), [1])
    add("did:a", "H")
    assert.deepStrictEqual(taken(), [])
    outbox.ack(1)
    assert.deepStrictEqual(taken(), [2])
  })

  it("S5 sends what is not acknowledged again at a tick, once it is older than the timeout, and at each tick after that", () => {
    const { add, outbox, taken, time } = make()
    add("did:a", "H")
    time.now = 60
    add("did:b", "L", "L")
    assert.deepStrictEqual(taken(), [1, 2])
    time.now = 100
    outbox.retry()
    assert.deepStrictEqual(taken(), [])
    time.now = 101
    outbox.retry()
    assert.deepStrictEqual(taken(), [1])
    time.now = 200
    outbox.retry()
    assert.deepStrictEqual(taken(), [1, 2])
    outbox.ack(1)
    time.now = 300
    outbox.retry()
    assert.deepStrictEqual(taken(), [2])
  })

  it("queues what nobody takes again and again, as far as there is room", () => {
    const { add, outbox, taken, time } = make({ outgoing: 3 })
    add("did:a", "L")
    for (const now of [101, 202, 303, 404]) {
      time.now = now
      outbox.retry()
    }
    assert.deepStrictEqual(taken(), [1, 1, 1])
  })

  it("waits with what has no room, and loses nothing of it", () => {
    const { add, taken } = make({ outgoing: 2 })
    add("did:a", "H", "H", "H", "H", "H")
    add("did:b", "L")
    assert.deepStrictEqual(taken(), [1, 2, 3, 4, 5, 6])
  })

  it("S8 goes on with its numbers after a restart, and begins at 1 when its database is empty", () => {
    const { add, outbox, taken } = make()
    add("did:a", "H", "H")
    taken()
    outbox.ack(1)
    outbox.deleteAcked()
    outbox.restart("kept")
    assert.deepStrictEqual(taken(), [2])
    assert.deepStrictEqual(add("did:a", "H"), [4])
    outbox.ack(2)
    outbox.ack(4)
    outbox.deleteAcked()
    outbox.restart("kept")
    assert.deepStrictEqual(add("did:a", "H"), [1])
  })

  it("brings back after a restart what was acknowledged but not deleted", () => {
    const { add, outbox, taken } = make()
    add("did:a", "L", "L")
    taken()
    outbox.ack(1)
    assert.deepStrictEqual(taken(), [2])
    outbox.restart("kept")
    assert.deepStrictEqual(taken(), [1])
  })

  it("S8 gives new numbers to what is left of a lost database", () => {
    const { add, outbox, taken } = make()
    add("did:a", "L", "L")
    add("did:b", "L")
    taken()
    outbox.ack(1)
    outbox.restart("fromOne")
    assert.deepStrictEqual(taken(), [1, 2])
    assert.deepStrictEqual(add("did:c", "L"), [3])
  })

  it("S8 believes an acknowledgement of an event that it has not sent: that event is lost", () => {
    const { add, outbox, taken } = make()
    add("did:a", "L", "L")
    assert.deepStrictEqual(taken(), [1])
    outbox.ack(2)
    outbox.deleteAcked()
    outbox.ack(1)
    assert.deepStrictEqual(taken(), [])
    assert.strictEqual(outbox.unacked, 0)
  })

  it("S6 keeps its order in every history, and ends with everything acknowledged", () => {
    const step = fc.oneof(
      { weight: 5, arbitrary: fc.record({ do: fc.constant("add" as const), did: fc.nat(2), live: fc.boolean() }) },
      { weight: 5, arbitrary: fc.record({ do: fc.constant("take" as const) }) },
      { weight: 5, arbitrary: fc.record({ do: fc.constant("ack" as const), which: fc.nat(9) }) },
      {
        weight: 1,
        arbitrary: fc.record({ do: fc.constantFrom("retry" as const, "delete" as const, "restart" as const) })
      }
    )
    let redelivered = 0
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), fc.integer({ min: 1, max: 4 }), (steps, outgoing) => {
        const { outbox, time } = make({ outgoing })
        const live = new Map<number, { readonly did: string; readonly live: boolean }>()
        const firstSent: Array<number> = []
        const acked = new Set<number>()
        let inFlight: Array<number> = []
        const take = (): boolean => {
          const row = outbox.take()
          if (row === undefined) return false
          const others = inFlight.filter((id) => id !== row.id && live.get(id)!.did === row.did)
          if (inFlight.includes(row.id)) redelivered++
          else {
            // what lies in the queue is in flight for the server already
            assert.isFalse(row.live && others.length > 0, `live ${row.id} beside ${others}`)
            assert.isFalse(
              others.some((id) => live.get(id)!.live),
              `${row.id} beside a live one of ${others}`
            )
            if (!acked.has(row.id)) {
              inFlight.push(row.id)
              firstSent.push(row.id)
            }
          }
          return true
        }
        const ack = (id: number): void => {
          outbox.ack(id)
          acked.add(id)
          inFlight = inFlight.filter((other) => other !== id)
        }
        for (const one of steps) {
          time.now += 7
          switch (one.do) {
            case "add": {
              const did = `did:${one.did}`
              // after a restart of an empty database a number is given again: a history of its own
              const id = outbox.add({ did, live: one.live, frame: String })
              if (live.has(id)) return
              live.set(id, { did, live: one.live })
              break
            }
            case "take":
              take()
              break
            case "ack": {
              const id = inFlight[one.which % Math.max(1, inFlight.length)]
              if (id !== undefined) ack(id)
              break
            }
            case "retry":
              time.now += 101
              outbox.retry()
              break
            case "delete":
              outbox.deleteAcked()
              break
            case "restart":
              outbox.deleteAcked()
              outbox.restart("kept")
              inFlight = []
              firstSent.length = 0
          }
        }
        for (let round = 0; outbox.unacked > 0; round++) {
          assert.isBelow(round, 1000, "stalls")
          while (take());
          inFlight.slice().forEach(ack)
          time.now += 101
          outbox.retry()
        }
        for (const did of ["did:0", "did:1", "did:2"]) {
          const ids = firstSent.filter((id) => live.get(id)!.did === did)
          assert.deepStrictEqual(
            ids,
            [...ids].sort((a, b) => a - b)
          )
        }
      }),
      { numRuns: 2000 }
    )
    assert.isAbove(redelivered, 100)
  })
})
