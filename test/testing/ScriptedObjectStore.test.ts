import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Option, Stream, TestClock } from "effect"
import { ObjectStore } from "effect-periscope/objects"
import { ObjectStoreContract, ScriptedObjectStore } from "effect-periscope/testing"

ObjectStoreContract.suite(
  { describe, it },
  {
    name: "scripted",
    order: "utf8",
    wrongToken: "StaleToken",
    make: Effect.map(ScriptedObjectStore.make(), ({ store }) => store)
  }
)

const objects = { a: "1", b: "22", c: "333" }
const keysOf = (page: ObjectStore.ObjectPage) => page.objects.map(({ key }) => key)

describe("ScriptedObjectStore", () => {
  it.effect("every reason is a fault of every operation, once, and is recorded", () =>
    Effect.gen(function* () {
      const bucket = yield* ScriptedObjectStore.make({ objects })
      for (const reason of ObjectStore.Reason.literals) {
        yield* bucket.failNext(reason, 5)
        const operations: ReadonlyArray<Effect.Effect<unknown, ObjectStore.ObjectStoreError>> = [
          bucket.store.listPage(),
          bucket.store.head("a"),
          Stream.runDrain(bucket.store.get("a")),
          bucket.store.put("a", ""),
          bucket.store.remove("a")
        ]
        for (const operation of operations) assert.strictEqual((yield* Effect.flip(operation)).reason, reason)
      }
      assert.deepStrictEqual(
        bucket.calls.slice(-5).map(({ key, operation }) => [operation, key]),
        [["listPage", undefined], ...["head", "get", "put", "remove"].map((operation) => [operation, "a"])]
      )
      assert.deepStrictEqual(keysOf(yield* bucket.store.listPage()), ["a", "b", "c"])
    })
  )

  it.effect("pages come empty, cut, backwards, doubled and endless", () =>
    Effect.gen(function* () {
      const replies = ["empty", "partial", "reordered", "duplicated", "endless", "endless"] as const
      const bucket = yield* ScriptedObjectStore.make({ objects, replies, pageSize: 3 })
      const { store } = bucket
      assert.deepStrictEqual(yield* store.listPage(), { objects: [] })
      const half = yield* store.listPage()
      assert.deepStrictEqual([keysOf(half), half.next !== undefined], [["a"], true])
      assert.deepStrictEqual(keysOf(yield* store.listPage()), ["c", "b", "a"])
      assert.deepStrictEqual(keysOf(yield* store.listPage()), ["a", "b", "c", "a"])
      const { next: token } = yield* store.listPage()
      assert.strictEqual((yield* Effect.flip(store.listPage({ token }))).reason, "Decode")
      const more = yield* Effect.exit(store.listPage())
      assert.match(Cause.pretty(Option.getOrThrow(Exit.causeOption(more))), /call 7 \(listPage\) is not in the script/)
    })
  )

  it.effect("a slow answer says what was there when it was asked; changes by hand come afterwards", () =>
    Effect.gen(function* () {
      const bucket: ScriptedObjectStore.ScriptedObjectStore = yield* ScriptedObjectStore.make({
        objects,
        slow: "10 seconds",
        replies: ({ n }) => (n === 1 ? "slow" : { reply: "answer", afterwards: bucket.unset("b") })
      })
      const listing = yield* Effect.fork(bucket.store.listPage())
      yield* TestClock.adjust("5 seconds")
      yield* bucket.set("d", "later")
      assert.isTrue(Option.isNone(yield* Fiber.poll(listing)))
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(keysOf(yield* Fiber.join(listing)), ["a", "b", "c"])
      assert.deepStrictEqual(keysOf(yield* bucket.store.listPage()), ["a", "b", "c", "d"])
      assert.deepStrictEqual(keysOf(yield* bucket.store.listPage()), ["a", "c", "d"])
      assert.deepStrictEqual(
        bucket.calls.map(({ at }) => at),
        [0, 10_000, 10_000]
      )
    })
  )

  it.effect("a download breaks off in the middle, another one never begins", () =>
    Effect.gen(function* () {
      const bucket = yield* ScriptedObjectStore.make({ objects: { a: "0123456789" }, chunkSize: 3 })
      yield* bucket.failNext("Truncated")
      const parts: Array<string> = []
      const error = yield* bucket.store.get("a").pipe(
        Stream.decodeText(),
        Stream.runForEach((part) => Effect.sync(() => parts.push(part))),
        Effect.flip
      )
      assert.deepStrictEqual([parts.join(""), error.reason], ["01234", "Truncated"])
      yield* bucket.failNext("hang")
      const hanging = yield* Effect.fork(Stream.runDrain(bucket.store.get("a")))
      yield* TestClock.adjust("1 day")
      assert.isTrue(Option.isNone(yield* Fiber.poll(hanging)))
    })
  )

  it.effect("O5 a store lists in an order of its own", () =>
    Effect.gen(function* () {
      const { store } = yield* ScriptedObjectStore.make({ objects, pageSize: 2, order: (a, b) => (a < b ? 1 : -1) })
      const found = yield* Stream.runCollect(store.list())
      assert.deepStrictEqual(
        Array.from(found, ({ key }) => key),
        ["c", "b", "a"]
      )
    })
  )
})
