import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { Counts, Postponing } from "../../src/socket/postponing.js"

describe("Postponing: rule S6", () => {
  it("postpones all of an order from the first one on, until that has come again and there is room", () => {
    const postponing = new Postponing(10)
    assert.isFalse(postponing.postpones("a", "1", false))
    assert.isTrue(postponing.postpones("a", "2", true))
    assert.isTrue(postponing.postpones("a", "3", false), "it would overtake")
    assert.isTrue(postponing.postpones("a", "2", true), "there is no room yet")
    assert.isFalse(postponing.postpones("b", "3", false), "another order")
    assert.isFalse(postponing.postpones("a", "2", false))
    assert.isFalse(postponing.postpones("a", "3", false))
    assert.strictEqual(postponing.count, 3)
  })

  it("never postpones what has no ack, nor of more orders than it can remember", () => {
    const postponing = new Postponing(1)
    assert.isFalse(postponing.postpones("a", undefined, true))
    assert.isTrue(postponing.postpones("a", "1", true))
    assert.isFalse(postponing.postpones("b", "2", true))
    assert.isTrue(postponing.postpones("a", "3", false), "the first one is still remembered")
    postponing.clear()
    assert.isFalse(postponing.has("a"))
  })

  // Method: a server that sends again, in order, what was not taken, and rooms that come and go at random.
  it("lets no item overtake another of its order, however many orders it remembers", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom("a", "b", "c"), fc.boolean()), { maxLength: 60 }),
        fc.integer({ min: 0, max: 3 }),
        (rounds, maxOrders) => {
          const postponing = new Postponing(maxOrders)
          const unsent = new Map<string, Array<number>>()
          const taken = new Map<string, Array<number>>()
          let next = 0
          for (const [order, isFull] of rounds) {
            const waiting = [...(unsent.get(order) ?? []), next++]
            // new ones first, and then all again
            const sent = [waiting.at(-1)!, ...waiting]
            const done = new Set<number>()
            for (const id of sent) {
              if (done.has(id)) continue
              const isPostponed = postponing.postpones(order, String(id), isFull)
              if (isPostponed) continue
              done.add(id)
              taken.set(order, [...(taken.get(order) ?? []), id])
            }
            unsent.set(
              order,
              waiting.filter((id) => !done.has(id))
            )
          }
          for (const ids of taken.values()) {
            assert.deepStrictEqual(
              ids,
              [...ids].sort((one, other) => one - other)
            )
          }
        }
      )
    )
  })

  it("counts what is in flight, and forgets what is not", () => {
    const counts = new Counts()
    for (const order of ["a", "b", "a"]) counts.add(order)
    counts.remove("b")
    counts.remove("a")
    assert.deepStrictEqual([counts.of("a"), counts.of("b")], [1, 0])
    counts.clear()
    assert.strictEqual(counts.of("a"), 0)
  })
})
