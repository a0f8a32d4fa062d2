import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Fiber, Ref, Schedule, Stream, TestClock } from "effect"
import { Change, Checkpoints, Source, Watcher } from "effect-periscope"

const instants = (times: Ref.Ref<ReadonlyArray<number>>) =>
  Effect.flatMap(
    Effect.clockWith((clock) => clock.currentTimeMillis),
    (now) => Ref.update(times, (all) => [...all, now])
  )

describe("Watcher", () => {
  it.effect("W1 polls at once, then one interval after the previous delivery", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number>()
      yield* memory.set("a", 1)
      const seen = yield* Ref.make<ReadonlyArray<string>>([])
      const fiber = yield* Watcher.runForEach(
        memory,
        (change) => Ref.update(seen, (all) => [...all, `${change._tag} ${change.key}`]),
        {
          interval: "10 seconds"
        }
      ).pipe(Effect.fork)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(yield* Ref.get(seen), ["Added a"])
      yield* memory.set("a", 2)
      yield* TestClock.adjust("9999 millis")
      assert.deepStrictEqual(yield* Ref.get(seen), ["Added a"])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(yield* Ref.get(seen), ["Added a", "Modified a"])
      yield* memory.remove("a")
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(yield* Ref.get(seen), ["Added a", "Modified a", "Removed a"])
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("W2 waits interval * 2^n after the n-th failure, at most 32 intervals", () =>
    Effect.gen(function* () {
      const times = yield* Ref.make<ReadonlyArray<number>>([])
      const source = Source.make({
        name: "failing",
        state: Source.memory as never,
        item: Source.memory as never,
        initial: 0 as never,
        poll: () => Effect.zipRight(instants(times), Effect.fail("no"))
      })
      const fiber = yield* Effect.fork(Stream.runDrain(Watcher.changes(source)))
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(
        (yield* Ref.get(times)).map((time) => time / 1000),
        [0, 60, 180, 420, 900, 1860, 2820]
      )
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("once gives one complete observation, and with a checkpoint what is new since", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number>()
      yield* memory.set("a", 1)
      yield* memory.set("b", 1)
      const first = yield* Watcher.once(memory, { checkpoint: "m" })
      assert.deepStrictEqual(first, [Change.added("a", 1), Change.added("b", 1)])
      yield* memory.set("b", 2)
      const second = yield* Watcher.once(memory, { checkpoint: "m" })
      assert.deepStrictEqual(
        second.map((change) => change._tag + change.key),
        ["Modifiedb"]
      )
      assert.deepStrictEqual(yield* Watcher.once(memory, { checkpoint: "m" }), [])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("batches that are not committed come again", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number>()
      yield* memory.set("a", 1)
      const first = yield* Watcher.batches(memory, { checkpoint: "m" }).pipe(Stream.take(1), Stream.runCollect)
      const second = yield* Watcher.batches(memory, { checkpoint: "m" }).pipe(
        Stream.tap((batch) => batch.commit),
        Stream.take(1),
        Stream.runCollect
      )
      assert.deepStrictEqual(Chunk.unsafeHead(first).ids, Chunk.unsafeHead(second).ids)
      assert.isTrue(Chunk.unsafeHead(second).redelivered)
      const third = yield* Watcher.batches(memory, { checkpoint: "m", schedule: Schedule.stop }).pipe(Stream.runCollect)
      assert.strictEqual(third.length, 0)
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})
