import { assert, describe, it } from "@effect/vitest"
import { Effect, FastCheck, Option, Schema } from "effect"
import { Change } from "effect-periscope"

const option = FastCheck.option(FastCheck.integer(), { nil: undefined }).map(Option.fromNullable)

const change: FastCheck.Arbitrary<Change.Change<number>> = FastCheck.oneof(
  FastCheck.tuple(FastCheck.string(), FastCheck.integer()).map(([key, value]) => Change.added(key, value)),
  FastCheck.tuple(FastCheck.string(), FastCheck.integer(), option).map((parts) => Change.modified(...parts)),
  FastCheck.tuple(FastCheck.string(), option).map((parts) => Change.removed(...parts))
)

describe("Change", () => {
  it("what is encoded is decoded, and an unknown `previous` is an absent field", () => {
    const codec = Change.schema(Schema.NumberFromString)
    FastCheck.assert(
      FastCheck.property(change, (before) => {
        const encoded = Schema.encodeSync(codec)(before)
        assert.deepStrictEqual(Schema.decodeSync(codec)(JSON.parse(JSON.stringify(encoded))), before)
      })
    )
    assert.deepStrictEqual(Schema.encodeSync(codec)(Change.removed("a")), { _tag: "Removed", key: "a" })
    assert.deepStrictEqual(Schema.encodeSync(codec)(Change.modified("a", 2, Option.some(1))), {
      _tag: "Modified",
      key: "a",
      value: "2",
      previous: "1"
    })
  })

  it("filter: a consumer that applies what is left sees exactly what the predicate accepts", () => {
    const accepts = (n: number) => n % 2 === 0
    FastCheck.assert(
      FastCheck.property(
        FastCheck.array(FastCheck.tuple(FastCheck.nat(2), option)),
        FastCheck.boolean(),
        (steps, knows) => {
          const all = new Map<string, number>()
          const view = new Map<string, number>()
          for (const [n, next] of steps) {
            const key = `k${n}`
            const known = Option.fromNullable(all.get(key))
            const previous = knows ? known : Option.none<number>()
            if (Option.isNone(known) && Option.isNone(next)) continue
            const found = Option.isNone(next)
              ? Change.removed(key, previous)
              : Option.isNone(known)
                ? Change.added(key, next.value)
                : Change.modified(key, next.value, previous)
            if (Option.isNone(next)) all.delete(key)
            else all.set(key, next.value)
            Option.match(Change.filter(found, accepts), {
              onNone: () => {},
              onSome: (passed) => {
                if (passed._tag === "Removed") return void view.delete(key)
                if (knows) assert.strictEqual(view.has(key), passed._tag === "Modified")
                view.set(key, passed.value)
              }
            })
            assert.deepStrictEqual(view, new Map([...all].filter(([_, value]) => accepts(value)).sort()), "the view")
          }
        }
      )
    )
  })

  it("map and match reach every value, in both call styles", () => {
    const double = (n: number) => n * 2
    assert.deepStrictEqual(Change.map(Change.added("a", 1), double), Change.added("a", 2))
    assert.deepStrictEqual(
      Change.map(double)(Change.modified("a", 1, Option.some(3))),
      Change.modified("a", 2, Option.some(6))
    )
    assert.deepStrictEqual(Change.map(Change.removed("a", Option.some(1)), double), Change.removed("a", Option.some(2)))
    const line = Change.match({
      onAdded: ({ key }) => `+${key}`,
      onModified: ({ key }) => `~${key}`,
      onRemoved: ({ key }) => `-${key}`
    })
    assert.deepStrictEqual([Change.added("a", 1), Change.modified("b", 1), Change.removed("c")].map(line), [
      "+a",
      "~b",
      "-c"
    ])
  })

  it.effect("traverse: the value must decode, a `previous` that does not is unknown", () =>
    Effect.gen(function* () {
      const decode = (n: number) => (n > 0 ? Effect.succeed(String(n)) : Effect.fail("no"))
      const run = Change.traverse(decode)
      assert.deepStrictEqual(yield* run(Change.modified("a", 1, Option.some(-1))), Change.modified("a", "1"))
      assert.deepStrictEqual(yield* run(Change.removed("a", Option.some(-1))), Change.removed("a"))
      assert.strictEqual(yield* Effect.flip(run(Change.added("a", -1))), "no")
    })
  )
})
