import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck, Fiber, Stream } from "effect"
import { Change, Source } from "effect-periscope"
import { Informer } from "effect-periscope/control"
import { VirtualClock } from "effect-periscope/testing"
import type { Accepts } from "./informerModel.js"
import { Reader, World } from "./informerModel.js"

const key = FastCheck.constantFrom("a", "b", "c", "d", "e", "f", "g")
const value = FastCheck.nat({ max: 9 })
const change = FastCheck.oneof(
  { arbitrary: FastCheck.tuple(key, value).map(([k, v]) => Change.added(k, v)), weight: 2 },
  { arbitrary: FastCheck.tuple(key, value).map(([k, v]) => Change.modified(k, v)), weight: 2 },
  { arbitrary: key.map((k) => Change.removed<number>(k)), weight: 3 }
)

const even: Accepts = (n) => n % 2 === 0
const following = FastCheck.record({
  from: FastCheck.constantFrom<"snapshot" | "now">("snapshot", "now"),
  share: FastCheck.double({ min: 0, max: 1, noNaN: true }),
  resync: FastCheck.boolean(),
  accepts: FastCheck.constantFrom(undefined, even)
})

type Step =
  | { readonly _tag: "Change"; readonly changes: ReadonlyArray<Change.Change<number>> }
  | { readonly _tag: "Follow"; readonly how: Parameters<typeof follow>[1] }
  | { readonly _tag: "Read"; readonly who: number; readonly most: number }
  | { readonly _tag: "Resume" | "Leave"; readonly who: number }
  | { readonly _tag: "Check" }

const who = FastCheck.nat({ max: 7 })
const step: FastCheck.Arbitrary<Step> = FastCheck.oneof(
  {
    arbitrary: FastCheck.array(change, { minLength: 1, maxLength: 12 }).map((changes) => ({
      _tag: "Change" as const,
      changes
    })),
    weight: 6
  },
  { arbitrary: following.map((how) => ({ _tag: "Follow" as const, how })), weight: 2 },
  {
    arbitrary: FastCheck.record({
      _tag: FastCheck.constant("Read" as const),
      who,
      most: FastCheck.constantFrom(Infinity, Infinity, 0, 1, 2, 4)
    }),
    weight: 5
  },
  {
    arbitrary: FastCheck.record({ _tag: FastCheck.constantFrom("Resume" as const, "Leave" as const), who }),
    weight: 1
  },
  { arbitrary: FastCheck.constant({ _tag: "Check" as const }), weight: 1 }
)

const follow = (
  world: World,
  { accepts, from, resync, share }: typeof following extends FastCheck.Arbitrary<infer A> ? A : never
): Reader => {
  const buffer = 1 + Math.floor(share * (world.cache.history.capacity - 1))
  return new Reader(world, { from, buffer, resync, accepts })
}

describe("Informer", () => {
  it("C10 C7 each follower's view is the model's, without repeats, and without a gap that is not told", () => {
    const seen = { lags: 0, compactions: 0, resumptions: 0, missed: 0 }
    const history = FastCheck.integer({ min: 1, max: 20 })
    const start = FastCheck.constantFrom(1, 1_000_000)
    FastCheck.assert(
      FastCheck.property(
        history,
        start,
        FastCheck.array(step, { maxLength: 80, size: "max" }),
        (capacity, at, steps) => {
          const world = new World(capacity, at)
          const readers: Array<Reader> = []
          for (const one of steps) {
            if (one._tag === "Change") one.changes.forEach((change) => world.apply(change))
            else if (one._tag === "Check") world.check()
            else if (one._tag === "Follow") readers.push(follow(world, one.how))
            else if (one._tag === "Read") readers[one.who]?.read(one.most)
            else if (one._tag === "Resume") readers[one.who]?.resume()
            else readers.splice(one.who, 1).forEach((reader) => reader.close())
          }
          world.check()
          for (const reader of readers) {
            reader.finish()
            seen.lags += reader.lags
            seen.compactions += reader.compactions
            seen.resumptions += reader.resumptions
            reader.close()
          }
          seen.missed += world.missed
          assert.strictEqual(world.cache.followers.size, 0)
        }
      ),
      { numRuns: 600 }
    )
    // the model was put to the test
    for (const [what, count] of Object.entries(seen)) assert.isAbove(count, 300, what)
  })

  it("C10 C7 followers of any speed that come and go end with what is there, at no cost to the others", async () => {
    let lags = 0
    const speed = FastCheck.record({
      delay: FastCheck.constantFrom(0, 0, 1, 7, 40),
      buffer: FastCheck.integer({ min: 1, max: 8 }),
      resync: FastCheck.boolean(),
      /** It leaves after so many events: more than a snapshot has, which would never end otherwise. */
      stay: FastCheck.integer({ min: 9, max: 40 })
    })
    const burst = FastCheck.array(FastCheck.tuple(key, FastCheck.option(value)), { minLength: 1, maxLength: 8 })
    await FastCheck.assert(
      FastCheck.asyncProperty(
        FastCheck.array(speed, { minLength: 1, maxLength: 6 }),
        FastCheck.array(burst, { minLength: 20, maxLength: 40, size: "max" }),
        (speeds, bursts) => {
          const program = Effect.gen(function* () {
            const source = yield* Source.memory<number>()
            const informer = yield* Informer.make(source, { interval: "10 millis", history: 8 })
            const expected = new Map<string, number>()
            const followers = yield* Effect.forEach(speeds, (one) =>
              Effect.map(Effect.fork(followFor(informer, one)), (fiber) => ({ fiber }))
            )
            for (const changes of bursts) {
              for (const [k, v] of changes) {
                if (v === null) expected.delete(k)
                else expected.set(k, v)
                yield* v === null ? source.remove(k) : source.set(k, v)
              }
              yield* Effect.sleep("10 millis")
            }
            // in a poll of its own, behind all of that
            yield* Effect.sleep("50 millis")
            yield* source.set("end", 0)
            expected.set("end", 0)
            for (const { fiber } of followers) {
              const { lagged, view } = yield* Fiber.join(fiber)
              lags += lagged
              assert.deepStrictEqual(new Map([...view].sort()), new Map([...expected].sort()))
            }
            assert.strictEqual((yield* informer.status).followers, 0)
          })
          return Effect.runPromise(program.pipe(Effect.scoped, VirtualClock.run))
        }
      ),
      { numRuns: 15 }
    )
    assert.isAbove(lags, 5)
  })
})

interface Speed {
  readonly delay: number
  readonly buffer: number
  readonly resync: boolean
  readonly stay: number
}

/** Follows until it has seen the end, as programs do: by snapshot where it was too slow, by revision where it was away. */
const followFor = (informer: Informer.Informer<number>, { buffer, delay, resync, stay }: Speed) =>
  Effect.gen(function* () {
    const view = new Map<string, number>()
    let lagged = 0
    let from = "snapshot" as "snapshot" | number
    const handle = (event: Informer.Event<number>): Effect.Effect<void> =>
      Effect.gen(function* () {
        from = event.revision
        if (event._tag === "Removed") view.delete(event.key)
        else if (event._tag !== "Lagged") view.set(event.key, event.value)
        else {
          lagged++
          const { items, revision } = yield* informer.snapshot
          view.clear()
          for (const [key, value] of items) view.set(key, value)
          from = revision
        }
        yield* Effect.sleep(delay)
      })
    while (!view.has("end")) {
      const run = informer.changes({ from, buffer, resync }).pipe(
        Stream.take(stay),
        Stream.mapEffect(handle),
        Stream.takeUntil(() => view.has("end")),
        Stream.runDrain
      )
      yield* Effect.catchTag(run, "Compacted", () =>
        Effect.sync(() => {
          view.clear()
          from = "snapshot"
        })
      )
    }
    return { view, lagged }
  })
