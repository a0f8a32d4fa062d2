import * as PlatformError from "@effect/platform/Error"
import * as KeyValueStore from "@effect/platform/KeyValueStore"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { createHash } from "node:crypto"
import * as Checkpoints from "../../src/core/Checkpoints.js"
import { makeFences } from "../../src/core/recordStore.js"
import { suite } from "../../src/testing/CheckpointsContract.js"

suite(
  { describe, it },
  {
    name: "memory",
    guarantees: { survives: "process", fence: "process" },
    make: Effect.map(Checkpoints.makeMemory, (store) => Layer.succeed(Checkpoints.Checkpoints, store))
  }
)

/** A store over a map, which fails from the `budget`-th change on: the process is dead. */
const scripted = (map: Map<string, string>, budget = Number.POSITIVE_INFINITY) => {
  let left = budget
  const change = (f: () => void) =>
    Effect.suspend(() => {
      if (left-- > 0) return Effect.sync(f)
      const parts = { module: "KeyValueStore", method: "set", pathOrDescriptor: "", description: "dead" } as const
      return Effect.fail(new PlatformError.SystemError({ ...parts, reason: "Unknown" }))
    })
  return KeyValueStore.makeStringOnly({
    get: (key) => Effect.sync(() => Option.fromNullable(map.get(key))),
    set: (key, value) => change(() => map.set(key, value)),
    remove: (key) => change(() => map.delete(key)),
    clear: Effect.dieMessage("clear must not be called"),
    size: Effect.dieMessage("size must not be called")
  })
}

const over = (store: KeyValueStore.KeyValueStore) =>
  Layer.provide(Checkpoints.layerKeyValueStore, Layer.succeed(KeyValueStore.KeyValueStore, store))

// A new store object over the same map each time: nothing but the values survives.
suite(
  { describe, it },
  {
    name: "key-value store",
    guarantees: { survives: "backend", fence: "process" },
    make: Effect.sync(() => {
      const map = new Map<string, string>()
      return Layer.suspend(() => over(scripted(map)))
    })
  }
)

suite(
  { describe, it },
  {
    name: "key-value store with a prefix",
    guarantees: { survives: "backend", fence: "process" },
    make: Effect.sync(() => {
      const map = new Map<string, string>()
      return Layer.suspend(() => over(KeyValueStore.prefix(scripted(map), "app/")))
    })
  }
)

const within = <A, E, R>(store: KeyValueStore.KeyValueStore, use: Effect.Effect<A, E, R>) =>
  Effect.scoped(Effect.provide(use, over(store)))

const claim = (checkpoint: string) => Effect.flatMap(Checkpoints.Checkpoints, (store) => store.claim(checkpoint))

const large = (n: number) => new Uint8Array(5000).fill(n)

/** A stream of saves in which each drops the large block of the one before. */
const saves = Effect.gen(function* () {
  const { save, stored } = yield* claim("a")
  const first = Option.match(stored, { onNone: () => 1, onSome: ({ rev }) => rev + 1 })
  for (let rev = first; rev < first + 3; rev++) {
    yield* save({ rev, head: `${rev}`, put: [[`b${rev}`, large(rev)]], drop: [`b${rev - 1}`] })
  }
})

const isWhole = ({ rev, head, blocks }: Checkpoints.Stored) => {
  assert.strictEqual(head, `${rev}`)
  assert.deepStrictEqual(Array.from(blocks), [[`b${rev}`, large(rev)]])
}

describe("Checkpoints in a key-value store", () => {
  // Goal: no crash tears a record or leaves keys behind. Method: the store dies at its k-th change, for every k.
  it.effect("a crash at any change leaves the old or the new record and no garbage", () =>
    Effect.gen(function* () {
      let crashes = 0
      for (let k = 0; ; k++) {
        const map = new Map<string, string>()
        yield* within(scripted(map), saves)
        const attempt = yield* Effect.either(within(scripted(map, k), saves))
        const stored = yield* within(
          scripted(map),
          Effect.map(claim("a"), (claimed) => Option.getOrThrow(claimed.stored))
        )
        isWhole(stored)
        assert.isTrue(stored.rev >= 3 && stored.rev <= 6)
        const parts = Array.from(map.keys()).filter((key) => key.includes(".part."))
        assert.strictEqual(parts.length, 1, `after a crash at change ${k}: ${parts.join(", ")}`)
        if (attempt._tag === "Right") {
          assert.strictEqual(stored.rev, 6)
          break
        }
        assert.strictEqual((attempt.left as Checkpoints.CheckpointError).reason, "Unavailable")
        crashes++
      }
      assert.isAbove(crashes, 10)
    })
  )

  it.effect("a store that recovers is used again by the same claim", () =>
    Effect.gen(function* () {
      for (let k = 0; k < 6; k++) {
        const map = new Map<string, string>()
        let failures = -1
        const store = scripted(map)
        const flaky = { ...store, set: (key: string, value: string) => flakily(store.set(key, value)) }
        const flakily = <A, E>(effect: Effect.Effect<A, E>) =>
          Effect.suspend(() => (failures-- === 0 ? Effect.zipRight(effect, scripted(map, 0).set("", "")) : effect))
        yield* within(
          flaky as KeyValueStore.KeyValueStore,
          Effect.gen(function* () {
            const { save } = yield* claim("a")
            yield* save({ rev: 1, head: "1", put: [["b1", large(1)]], drop: [] })
            failures = k
            const second = yield* Effect.either(save({ rev: 2, head: "2", put: [["b2", large(2)]], drop: ["b1"] }))
            assert.strictEqual(second._tag, k < 3 ? "Left" : "Right")
            failures = -1
            yield* save({ rev: 3, head: "3", put: [["b3", large(3)]], drop: ["b1", "b2"] })
          })
        )
        isWhole(
          yield* within(
            store,
            Effect.map(claim("a"), ({ stored }) => Option.getOrThrow(stored))
          )
        )
        assert.strictEqual(Array.from(map.keys()).filter((key) => key.includes(".part.")).length, 1)
      }
    })
  )

  it.effect("every changed or missing value is Corrupt, and no message shows the contents", () =>
    Effect.gen(function* () {
      const map = new Map<string, string>()
      yield* within(scripted(map), saves)
      const head = Array.from(map.keys()).find((key) => key.endsWith(".head"))
      const part = Array.from(map.keys()).find((key) => key.includes(".part."))
      assert.isDefined(head)
      assert.isDefined(part)
      const fails = (key: string, value: string | undefined) =>
        Effect.gen(function* () {
          const changed = new Map(map)
          if (value === undefined) changed.delete(key)
          else changed.set(key, value)
          const error = yield* Effect.flip(within(scripted(changed), claim("a")))
          assert.strictEqual(error.checkpoint, "a")
          assert.include(error.message, key)
          assert.isFalse(error.isRetryable)
          return error.reason
        })
      const text = map.get(head) ?? ""
      for (let at = 0; at < text.length; at++) {
        assert.strictEqual(yield* fails(head, text.slice(0, at)), "Corrupt")
        const flipped = String.fromCharCode(text.charCodeAt(at) ^ 1)
        assert.strictEqual(yield* fails(head, text.slice(0, at) + flipped + text.slice(at + 1)), "Corrupt")
      }
      assert.strictEqual(yield* fails(part, undefined), "Corrupt")
      assert.strictEqual(yield* fails(part, ""), "Corrupt")
      assert.strictEqual(yield* fails(part, Buffer.from(large(9)).toString("base64")), "Corrupt")
      const newer = `2\n{"x":1}`
      const sum = createHash("sha256").update(newer).digest("hex")
      assert.strictEqual(yield* fails(head, `effect-periscope checkpoint 2 ${sum}\n{"x":1}`), "UnknownFormat")
    })
  )

  it.effect("two layers over one store object share the claims", () =>
    Effect.gen(function* () {
      const store = scripted(new Map())
      const one = Context.get(yield* Layer.build(over(store)), Checkpoints.Checkpoints)
      const two = Context.get(yield* Layer.build(over(store)), Checkpoints.Checkpoints)
      yield* one.claim("a")
      assert.strictEqual((yield* Effect.flip(two.remove("a"))).reason, "Locked")
    }).pipe(Effect.scoped)
  )
})

describe("Checkpoints over a store that hangs", () => {
  it.scoped("a save that waits for its turn can be given up, so that none are collected", () =>
    Effect.gen(function* () {
      const map = new Map<string, string>()
      const hung = KeyValueStore.makeStringOnly({
        get: (key) => Effect.sync(() => Option.fromNullable(map.get(key))),
        set: (key, value) => (key.endsWith(".head") ? Effect.never : Effect.sync(() => map.set(key, value))),
        remove: () => Effect.void,
        clear: Effect.void,
        size: Effect.succeed(0)
      })
      const store = Context.get(yield* Layer.build(over(hung)), Checkpoints.Checkpoints)
      const { save } = yield* store.claim("a")
      const attempt = (rev: number) => Effect.forkDaemon(save({ rev, head: "", put: [], drop: [] }))
      yield* attempt(1)
      const waiting = yield* attempt(2)
      yield* Effect.yieldNow()
      yield* Effect.fork(Fiber.interrupt(waiting))
      yield* Effect.repeatN(Effect.yieldNow(), 10)
      assert.isTrue(Option.isSome(yield* Fiber.poll(waiting)))
    })
  )
})

describe("Fences", () => {
  it.effect("numbers grow over generations that are used up", () =>
    Effect.gen(function* () {
      let generation = 0
      const next = makeFences(
        Effect.sync(() => ++generation),
        3
      )
      const fences = yield* Effect.all(
        Array.from({ length: 10 }, () => next),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(fences, [3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
      assert.strictEqual(generation, 4)
    })
  )
})
