import { assert, describe, it } from "@effect/vitest"
import { FastCheck as fc } from "effect"
import { Fifo, Lanes } from "../../src/socket/lanes.js"
import type { Entry } from "../../src/socket/window.js"
import { Window } from "../../src/socket/window.js"

interface Item {
  /** What the server calls it on its connection. */
  readonly id: string
  readonly key: string | undefined
}

type Step =
  | { readonly _tag: "receive"; readonly key: number; readonly id: number }
  | { readonly _tag: "finish" | "forget"; readonly which: number }
  | { readonly _tag: "reconnect" }
  | { readonly _tag: "clear" }

const key = fc.integer({ min: 0, max: 6 })
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ _tag: fc.constant("receive" as const), key, id: fc.nat(2) }) },
  { weight: 3, arbitrary: fc.record({ _tag: fc.constant("finish" as const), which: fc.nat(10) }) },
  { weight: 1, arbitrary: fc.record({ _tag: fc.constant("forget" as const), which: fc.nat(10) }) },
  { weight: 1, arbitrary: fc.constant({ _tag: "reconnect" as const }) },
  { weight: 1, arbitrary: fc.constant({ _tag: "clear" as const }) }
)

/** The same, kept as lists that are searched. */
class Model {
  open: Array<{ key: string | undefined; connection: number; ids: Array<string>; entry: Entry<Item> }> = []
  done: Array<string> = []

  constructor(readonly size: number) {}

  get count(): number {
    return this.open.reduce((sum, { ids }) => sum + ids.length, 0)
  }
}

describe("Window: section 2 (d)", () => {
  it("agrees with a model in any order of frames, handlers and connections", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), fc.integer({ min: 0, max: 4 }), (steps, size) => {
        const window = new Window<Item>(size, (one, other) => one.id === other.id)
        const model = new Model(size)
        const stale: Array<Entry<Item>> = []
        let connection = 1
        for (const step of steps) {
          if (step._tag === "receive") {
            // key 0 stands for an item without a key
            const item: Item = { id: `${connection}:${step.id}`, key: step.key === 0 ? undefined : `k${step.key}` }
            const offered = window.offer(item, item.key, undefined, 10, connection)
            const known = item.key === undefined ? undefined : model.open.find(({ key }) => key === item.key)
            if (offered === "done") {
              assert.include(model.done, item.key)
            } else if (offered === "open") {
              assert.isDefined(known)
              if (known!.connection !== connection) {
                known!.connection = connection
                known!.ids = [item.id]
              } else if (!known!.ids.includes(item.id)) known!.ids.push(item.id)
            } else {
              assert.isUndefined(known)
              // of those that are done the last `size` are known for certain
              assert.notInclude(size === 0 ? [] : model.done.slice(-size), item.key)
              model.open.push({ key: item.key, connection, ids: [item.id], entry: offered })
            }
          } else if (step._tag === "reconnect") connection++
          else if (step._tag === "clear") {
            stale.push(...model.open.map(({ entry }) => entry))
            window.clear()
            model.open = []
          } else if (model.open.length > 0) {
            const [out] = model.open.splice(step.which % model.open.length, 1)
            const { entry, ids } = out!
            assert.isTrue(step._tag === "finish" ? window.finish(entry) : window.forget(entry))
            // the ids that are acked are all of the connection on which it was received last
            assert.strictEqual(entry.connection, out!.connection)
            assert.deepStrictEqual(
              [entry.received, ...(entry.again ?? [])].map(({ id }) => id),
              ids
            )
            if (step._tag === "finish" && out!.key !== undefined) {
              model.done = model.done.filter((key) => key !== out!.key)
              model.done.push(out!.key)
            }
            assert.isFalse(window.finish(entry), "an item is finished once")
          }
          assert.strictEqual(window.count, model.count)
          assert.strictEqual(window.entries, model.open.length)
          assert.strictEqual(window.bytes, 10 * model.open.length)
        }
        for (const entry of stale) assert.isFalse(window.finish(entry), "an entry of before counts no more")
        assert.strictEqual(window.count, model.count)
      }),
      { numRuns: 2000 }
    )
  })

  it("E4 remembers the last `size` keys, and never more than twice as many", () => {
    const window = new Window<number>(100, () => true)
    const finish = (n: number): void => {
      const offered = window.offer(n, `k${n}`, undefined, 1, 1)
      assert.notStrictEqual(offered, "open")
      if (typeof offered !== "string") window.finish(offered)
    }
    for (let n = 0; n < 10_000; n++) finish(n)
    const known = (n: number): boolean => {
      const offered = window.offer(n, `k${n}`, undefined, 1, 1)
      if (typeof offered === "string") return offered === "done"
      window.forget(offered)
      return false
    }
    for (let n = 9_900; n < 10_000; n++) assert.isTrue(known(n))
    for (let n = 0; n < 9_800; n++) assert.isFalse(known(n))
  })
})

describe("Lanes: S6", () => {
  it("keeps the order within a lane, and lets none run twice at once", () => {
    const move = fc.oneof(fc.record({ push: fc.integer({ min: 0, max: 4 }) }), fc.record({ release: fc.nat(10) }))
    fc.assert(
      fc.property(fc.array(move, { maxLength: 100 }), (moves) => {
        const lanes = new Lanes<{ readonly n: number; readonly order: string | undefined }>()
        const running: Array<{ readonly n: number; readonly order: string | undefined }> = []
        const taken: Array<{ readonly n: number; readonly order: string | undefined }> = []
        let pushed = 0
        const take = (): void => {
          for (let item = lanes.take(); item !== undefined; item = lanes.take()) {
            assert.isFalse(item.order !== undefined && running.some(({ order }) => order === item!.order))
            running.push(item)
            taken.push(item)
          }
        }
        const release = (at: number): void => {
          const [done] = running.splice(at % running.length, 1)
          lanes.release(done!.order)
          take()
        }
        for (const move of moves) {
          if ("push" in move) {
            const order = move.push === 0 ? undefined : `lane ${move.push}`
            lanes.push({ n: pushed++, order }, order)
            // what has no order never waits
            take()
          } else if (running.length > 0) release(move.release)
        }
        while (running.length > 0) release(0)
        assert.strictEqual(taken.length, pushed)
        for (const lane of [1, 2, 3, 4]) {
          const numbers = taken.filter(({ order }) => order === `lane ${lane}`).map(({ n }) => n)
          assert.deepStrictEqual(
            numbers,
            [...numbers].sort((a, b) => a - b)
          )
        }
      }),
      { numRuns: 1000 }
    )
  })

  it("a queue is first in, first out, over any mixture", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: -3, max: 600 }), { maxLength: 60 }), (moves) => {
        const queue = new Fifo<number>()
        const model: Array<number> = []
        let next = 0
        for (const move of moves) {
          if (move >= 0) {
            for (let count = 0; count < move; count++) {
              queue.push(next)
              model.push(next++)
            }
          } else if (move === -3) assert.deepStrictEqual(queue.takeAll(), model.splice(0))
          else for (let count = 0; count < 700; count++) assert.strictEqual(queue.shift(), model.shift())
          assert.strictEqual(queue.length, model.length)
        }
      })
    )
  })
})
