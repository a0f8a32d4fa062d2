import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Stream, TestClock } from "effect"
import { Memory, ObjectStore } from "effect-periscope/objects"
import { ObjectStoreContract } from "effect-periscope/testing"

ObjectStoreContract.suite(
  { describe, it },
  {
    name: "memory",
    order: "utf8",
    wrongToken: "StaleToken",
    make: Memory.make({ pageSize: 300 })
  }
)

describe("Memory", () => {
  it.effect("O1 the same content again has the same ETag and another version, at the time of the clock", () =>
    Effect.gen(function* () {
      const store = yield* Memory.make()
      yield* TestClock.adjust("1 hour")
      const first = yield* store.put("a", "x")
      yield* TestClock.adjust("1 minute")
      const second = yield* store.put("a", "x")
      const third = yield* store.put("a", "y")
      assert.strictEqual(first.lastModifiedMillis, 3_600_000)
      assert.strictEqual(second.lastModifiedMillis, yield* Clock.currentTimeMillis)
      assert.strictEqual(first.etag, second.etag)
      assert.notStrictEqual(second.etag, third.etag)
      assert.deepStrictEqual([first.version, second.version, third.version], ["1", "2", "3"])
    })
  )

  it.effect("O5 the token of another prefix is stale", () =>
    Effect.gen(function* () {
      const store = yield* Memory.make({ objects: { a1: "", a2: "", b1: "" }, pageSize: 1 })
      const { next: token } = yield* store.listPage({ prefix: "a" })
      const error = yield* Effect.flip(store.listPage({ prefix: "b", token }))
      assert.strictEqual(error.reason, "StaleToken")
    })
  )

  it("sizes that are none are refused at once, naming the option", () => {
    assert.throws(() => Memory.make({ pageSize: 0 }), /Memory: `pageSize` is 0/)
    assert.throws(() => Memory.layer({ chunkSize: Number.NaN }), /Memory: `chunkSize` is NaN/)
  })
})

describe("ObjectStore.make", () => {
  const backend = (pages: ReadonlyArray<ObjectStore.ObjectPage>, asked: Array<string | undefined> = []) =>
    Effect.map(Memory.make(), (store) =>
      ObjectStore.make({
        ...store,
        listPage: ({ token } = {}) =>
          Effect.suspend(() => {
            asked.push(token)
            const page = pages[token === undefined ? 0 : Number(token)]
            return page === undefined
              ? new ObjectStore.ObjectStoreError({
                  reason: "Truncated",
                  store: store.identity,
                  operation: "listPage",
                  message: "cut"
                })
              : Effect.succeed(page)
          })
      })
    )
  const page = (key: string, next?: string) => ({
    objects: [{ key, size: 0 }],
    ...(next === undefined ? {} : { next })
  })

  it.effect("O2 list gives the pages before a failing one, then fails", () =>
    Effect.gen(function* () {
      const store = yield* backend([page("a", "1"), page("b", "2")])
      const seen: Array<string> = []
      const error = yield* store.list().pipe(
        Stream.runForEach(({ key }) => Effect.sync(() => seen.push(key))),
        Effect.flip
      )
      assert.deepStrictEqual(seen, ["a", "b"])
      assert.strictEqual(error.reason, "Truncated")
    })
  )

  it.effect("O5 list asks for a page when it is wanted", () =>
    Effect.gen(function* () {
      const asked: Array<string | undefined> = []
      const store = yield* backend([page("a", "1"), page("b")], asked)
      assert.strictEqual((yield* Stream.runHead(store.list()))._tag, "Some")
      assert.deepStrictEqual(asked, [undefined])
    })
  )

  it.effect("O2 a page that names itself as the next one is an error", () =>
    Effect.gen(function* () {
      const store = yield* backend([page("a", "1"), page("b", "1")])
      const error = yield* Effect.flip(Stream.runDrain(store.list()))
      assert.strictEqual(error.reason, "Decode")
      assert.isTrue(error.isRetryable)
    })
  )

  it.effect("the backend is not even called with a key that is refused", () =>
    Effect.gen(function* () {
      const never = (key: string): never => assert.fail(`called with ${JSON.stringify(key)}`)
      const store = ObjectStore.make({
        ...(yield* Memory.make()),
        head: never,
        get: never,
        put: never,
        remove: never
      })
      for (const key of ["", "\ud800"]) {
        const operations: ReadonlyArray<Effect.Effect<unknown, ObjectStore.ObjectStoreError>> = [
          store.head(key),
          Stream.runDrain(store.get(key)),
          store.put(key, ""),
          store.remove(key)
        ]
        for (const operation of operations) {
          assert.strictEqual((yield* Effect.flip(operation)).reason, "InvalidRequest")
        }
      }
    })
  )
})
