/**
 * What every checkpoint store has to keep, as one test suite for any test runner.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Context from "effect/Context"
import * as Exit from "effect/Exit"
import assert from "node:assert/strict"
import type { CheckpointError, Claim, Guarantees, Save } from "../core/Checkpoints.js"
import { Checkpoints } from "../core/Checkpoints.js"

/**
 * The part of a test runner that a suite needs; those of vitest, jest and node:test fit. `timeoutMillis` is how long a test
 * may take, for a suite with long ones; node:test, which has no limit of its own, ignores it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Runner {
  readonly describe: (name: string, body: () => void) => unknown
  readonly it: (name: string, body: () => Promise<void>, timeoutMillis?: number) => unknown
}

/**
 * The store under test. `make` runs once a test and prepares an empty place; the layer it gives is then built several
 * times, one after the other or side by side, and each build has to open that same place again. `guarantees` is what the
 * store has to declare, and what is tested.
 *
 * @category models
 * @since 0.1.0
 */
export interface Subject {
  readonly name: string
  readonly guarantees: Guarantees
  readonly make: Effect.Effect<Layer.Layer<Checkpoints, CheckpointError>, unknown, Scope.Scope>
}

type Place = Layer.Layer<Checkpoints, CheckpointError>
type Test = (place: Place) => Effect.Effect<void, unknown, Scope.Scope>

const text = (value: string): Uint8Array => new TextEncoder().encode(value)

const bytesOf = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, index) => (index * 31 + seed * 17 + (index >> 8)) & 255)

const save = (rev: number, change: Partial<Save> = {}): Save => ({
  rev,
  head: `head ${rev}`,
  put: [],
  drop: [],
  ...change
})

/** Opens the place, and closes it when `use` is done. */
const within = <A, E>(place: Place, use: (store: Checkpoints["Type"]) => Effect.Effect<A, E, Scope.Scope>) =>
  Effect.scoped(Effect.flatMap(Layer.build(place), (context) => use(Context.get(context, Checkpoints))))

const opened = (place: Place) => Effect.map(Layer.build(place), (context) => Context.get(context, Checkpoints))

/** Claims a record and lets it go again. */
const read = (store: Checkpoints["Type"], checkpoint: string) =>
  Effect.scoped(Effect.map(store.claim(checkpoint), ({ stored }) => stored))

const write = (store: Checkpoints["Type"], checkpoint: string, next: Save) =>
  Effect.scoped(Effect.flatMap(store.claim(checkpoint), (claim) => claim.save(next)))

const refusal = <A>(effect: Effect.Effect<A, CheckpointError, Scope.Scope>) =>
  Effect.map(Effect.either(effect), (result) => {
    assert.ok(Either.isLeft(result), "expected a CheckpointError, but it succeeded")
    assert.equal(result.left._tag, "CheckpointError")
    assert.ok(result.left.message.length > 0)
    return result.left.reason
  })

/** Compares a record with what it should be; by head and block, so that a difference is told in a few bytes. */
const isStored = (
  stored: Claim["stored"],
  rev: number,
  blocks: ReadonlyArray<readonly [id: string, bytes: Uint8Array]>,
  head: string = `head ${rev}`
): void => {
  assert.ok(Option.isSome(stored), "expected a record, found none")
  assert.equal(stored.value.rev, rev)
  assert.equal(stored.value.head === head, true, `another head came back than was saved with revision ${rev}`)
  assert.deepEqual(Array.from(stored.value.blocks.keys()).sort(), blocks.map(([id]) => id).sort())
  for (const [id, bytes] of blocks) {
    const found = stored.value.blocks.get(id)
    assert.ok(found !== undefined && Buffer.compare(found, bytes) === 0, `block "${id}" came back changed`)
  }
}

const records: ReadonlyArray<readonly [name: string, test: Test]> = [
  [
    "a fresh checkpoint has no record, and none is made by claiming it",
    (place) =>
      within(place, (store) =>
        Effect.gen(function* () {
          assert.ok(Option.isNone(yield* read(store, "fresh")))
          assert.ok(Option.isNone(yield* read(store, "fresh")))
          assert.deepEqual(yield* store.list, [])
          assert.equal(yield* store.remove("fresh"), false)
        })
      )
  ],
  [
    "head and blocks come back byte for byte",
    (place) =>
      within(place, (store) =>
        Effect.gen(function* () {
          const head = `{"quote":"\\"","line":"\n\r\u2028","unicode":"ä€😀","lone":"\ud800"}\u0000`
          const blocks: Save["put"] = [
            ["empty", new Uint8Array()],
            ["all bytes", Uint8Array.from({ length: 256 }, (_, index) => index)],
            ["unicode", text("ä€😀\ufeff")],
            ["../näme 😀\n", text("odd id")],
            ["view", bytesOf(100, 1).subarray(10, 20)],
            ["5 KiB", bytesOf(5 * 1024, 2)],
            ["1 MiB", bytesOf(1024 * 1024, 3)]
          ]
          yield* write(store, "round trip", save(1, { head, put: blocks }))
          isStored(yield* read(store, "round trip"), 1, blocks, head)
          yield* write(store, "empty head", save(1, { head: "" }))
          isStored(yield* read(store, "empty head"), 1, [], "")
        })
      )
  ],
  [
    "300 blocks are put, dropped and replaced, small and large ones",
    (place) =>
      within(place, (store) =>
        Effect.gen(function* () {
          const put = Array.from({ length: 300 }, (_, n) => [`b${n}`, bytesOf(n % 3 === 0 ? 6000 : n, n)] as const)
          yield* Effect.scoped(
            Effect.gen(function* () {
              const claim = yield* store.claim("blocks")
              yield* claim.save(save(1, { put: put.slice(0, 200) }))
              yield* claim.save(save(2, { put: put.slice(200), drop: ["b0", "b1", "b2", "unknown"] }))
            })
          )
          isStored(yield* read(store, "blocks"), 2, put.slice(3))
          yield* write(store, "blocks", save(3, { put: [["b0", text("back")]], drop: put.map(([id]) => id) }))
          isStored(yield* read(store, "blocks"), 3, [["b0", text("back")]])
          yield* write(store, "blocks", save(4))
          isStored(yield* read(store, "blocks"), 4, [["b0", text("back")]])
        })
      )
  ],
  [
    "arrays that the caller changes afterwards do not change the record",
    (place) =>
      within(place, (store) =>
        Effect.gen(function* () {
          const bytes = text("before")
          yield* write(store, "alias", save(1, { put: [["b", bytes]] }))
          bytes.fill(0)
          const stored = yield* read(store, "alias")
          isStored(stored, 1, [["b", text("before")]])
          Option.getOrThrow(stored).blocks.get("b")?.fill(0)
          isStored(yield* read(store, "alias"), 1, [["b", text("before")]])
        })
      )
  ],
  [
    "remove forgets a record once, list names the others, sorted",
    (place) =>
      within(place, (store) =>
        Effect.gen(function* () {
          for (const id of ["b", "a", "c"]) yield* write(store, id, save(1, { put: [["x", bytesOf(5000, 1)]] }))
          assert.deepEqual(yield* store.list, ["a", "b", "c"])
          assert.equal(yield* store.remove("b"), true)
          assert.equal(yield* store.remove("b"), false)
          assert.deepEqual(yield* store.list, ["a", "c"])
          assert.ok(Option.isNone(yield* read(store, "b")))
          yield* write(store, "b", save(1))
          isStored(yield* read(store, "b"), 1, [])
        })
      )
  ]
]

const oddIds: ReadonlyArray<string> = [
  "",
  ".",
  "..",
  "../../etc/passwd",
  "/",
  "a/b",
  "a\\b",
  "https://example.com/a?b=c&d=%20#e",
  "Case",
  "case",
  "CASE",
  "ä",
  "a\u0308",
  "日本語 😀",
  "\ud800",
  "\ud801",
  "null\u0000byte",
  "line\nbreak",
  "con",
  " ",
  "__proto__",
  "x".repeat(5000),
  `${"x".repeat(5000)}y`
]

const identities: ReadonlyArray<readonly [name: string, test: Test]> = [
  [
    "ids of any script, case and length are told apart",
    (place) =>
      within(place, (store) =>
        Effect.gen(function* () {
          for (const [n, id] of oddIds.entries()) yield* write(store, id, save(n + 1, { put: [["b", text(id)]] }))
          assert.deepEqual(yield* store.list, Array.from(oddIds).sort())
          for (const [n, id] of oddIds.entries()) isStored(yield* read(store, id), n + 1, [["b", text(id)]])
          for (const id of oddIds) assert.equal(yield* store.remove(id), true)
          assert.deepEqual(yield* store.list, [])
        })
      )
  ],
  [
    "two checkpoints do not disturb each other",
    (place) =>
      within(place, (store) =>
        Effect.gen(function* () {
          const one = yield* store.claim("one")
          const two = yield* store.claim("two")
          yield* one.save(save(1, { put: [["b", bytesOf(5000, 1)]] }))
          yield* two.save(save(7, { put: [["b", bytesOf(5000, 2)]] }))
          yield* one.save(save(2, { drop: ["b"] }))
          isStored(yield* read(store, "two"), 7, [["b", bytesOf(5000, 2)]])
          yield* one.save(save(3))
          assert.equal(yield* store.remove("two"), true)
          isStored(yield* read(store, "one"), 3, [])
        })
      )
  ],
  [
    "many checkpoints are saved at once, each in its own order",
    (place) =>
      within(place, (store) =>
        Effect.gen(function* () {
          const ids = Array.from({ length: 20 }, (_, n) => `id ${n}`)
          yield* Effect.forEach(
            ids,
            (id, n) =>
              Effect.scoped(
                Effect.gen(function* () {
                  const claim = yield* store.claim(id)
                  for (let rev = 1; rev <= 10; rev++) {
                    yield* claim.save(save(rev, { put: [[`b${rev}`, bytesOf(rev * 600, n)]], drop: [`b${rev - 2}`] }))
                  }
                })
              ),
            { concurrency: "unbounded", discard: true }
          )
          for (const [n, id] of ids.entries()) {
            isStored(yield* read(store, id), 10, [
              ["b9", bytesOf(5400, n)],
              ["b10", bytesOf(6000, n)]
            ])
          }
          assert.equal((yield* store.list).length, 20)
        })
      )
  ]
]

const claims: ReadonlyArray<readonly [name: string, test: Test]> = [
  [
    "a save is refused unless its revision is greater, and leaves the record as it was",
    (place) =>
      within(place, (store) =>
        Effect.gen(function* () {
          yield* write(store, "rev", save(5, { put: [["b", bytesOf(5000, 1)]] }))
          const claim = yield* store.claim("rev")
          for (const rev of [5, 4, 0, Number.NaN]) {
            const change = { put: [["c", bytesOf(5000, 2)]] as const, drop: ["b"] }
            assert.equal(yield* refusal(claim.save(save(rev, change))), "Fenced")
          }
          yield* claim.save(save(7, { put: [["d", text("d")]] }))
          assert.equal(yield* refusal(claim.save(save(6))), "Fenced")
          isStored(yield* read(store, "rev"), 7, [
            ["b", bytesOf(5000, 1)],
            ["d", text("d")]
          ])
        })
      )
  ],
  [
    "a claim is over when a younger one exists, whether that has saved or not",
    (place) =>
      within(place, (store) =>
        Effect.gen(function* () {
          const fences: Array<number> = []
          const first = yield* store.claim("fence")
          yield* first.save(save(1))
          const second = yield* store.claim("fence")
          assert.equal(yield* refusal(first.save(save(2))), "Fenced")
          yield* second.save(save(3))
          assert.equal(yield* refusal(first.save(save(4))), "Fenced")
          const third = yield* store.claim("fence")
          isStored(third.stored, 3, [])
          for (const { fence } of [first, second, third]) fences.push(fence)
          yield* third.save(save(4))
          isStored(yield* read(store, "fence"), 4, [])
          assert.equal(yield* refusal(third.save(save(5))), "Fenced")
          assert.ok(
            fences.every((fence, n) => n === 0 || fence > (fences[n - 1] ?? 0)),
            `fences ${fences} must grow`
          )
        })
      )
  ],
  [
    "of many claims at once one is left, and its saves are kept",
    (place) =>
      within(place, (store) =>
        Effect.gen(function* () {
          yield* write(store, "race", save(1, { put: [["b", bytesOf(5000, 1)]] }))
          const all = yield* Effect.all(
            Array.from({ length: 10 }, () => store.claim("race")),
            { concurrency: "unbounded" }
          )
          const results = yield* Effect.forEach(all, (claim) => Effect.either(claim.save(save(2, { drop: ["b"] }))), {
            concurrency: "unbounded"
          })
          assert.equal(results.filter(Either.isRight).length, 1)
          assert.equal(new Set(all.map(({ fence }) => fence)).size, 10)
          isStored(yield* read(store, "race"), 2, [])
        })
      )
  ],
  [
    "a claim ends with its scope, and a claimed record cannot be removed",
    (place) =>
      within(place, (store) =>
        Effect.gen(function* () {
          const scope = yield* Scope.make()
          const claim = yield* Scope.extend(store.claim("scope"), scope)
          assert.equal(yield* refusal(store.remove("scope")), "Locked")
          yield* claim.save(save(1))
          assert.equal(yield* refusal(store.remove("scope")), "Locked")
          yield* Scope.close(scope, Exit.void)
          assert.equal(yield* refusal(claim.save(save(2))), "Fenced")
          isStored(yield* read(store, "scope"), 1, [])
          assert.equal(yield* store.remove("scope"), true)
          assert.equal(yield* refusal(claim.save(save(3))), "Fenced")
          assert.deepEqual(yield* store.list, [])
          const next = yield* store.claim("scope")
          assert.ok(next.fence > claim.fence, "the fence must grow, also after a remove")
        })
      )
  ]
]

const afterReopening: ReadonlyArray<readonly [name: string, test: Test]> = [
  [
    "records and fences survive reopening",
    (place) =>
      Effect.gen(function* () {
        const put: Save["put"] = [
          ["small", text("small")],
          ["large", bytesOf(100_000, 1)]
        ]
        const first = yield* within(place, (store) =>
          Effect.gen(function* () {
            const { fence, save: saveIt } = yield* store.claim("kept")
            yield* saveIt(save(1, { put: [...put, ["gone", bytesOf(5000, 2)]] }))
            yield* saveIt(save(2, { drop: ["gone"] }))
            yield* write(store, "removed", save(1))
            yield* store.remove("removed")
            return fence
          })
        )
        for (let rev = 3; rev < 6; rev++) {
          yield* within(place, (store) =>
            Effect.gen(function* () {
              assert.deepEqual(yield* store.list, ["kept"])
              const claim = yield* store.claim("kept")
              assert.ok(claim.fence > first)
              isStored(claim.stored, rev - 1, put)
              assert.equal(yield* refusal(claim.save(save(rev - 1))), "Fenced")
              yield* claim.save(save(rev))
            })
          )
        }
      })
  ]
]

const betweenProcesses: ReadonlyArray<readonly [name: string, test: Test]> = [
  [
    "a second opening is locked out, or its claim ends that of the first",
    (place) =>
      Effect.gen(function* () {
        const one = yield* opened(place)
        const first = yield* one.claim("shared")
        yield* first.save(save(1))
        const two = yield* Effect.either(opened(place))
        if (Either.isLeft(two)) {
          assert.equal(two.left.reason, "Locked")
          return yield* first.save(save(2))
        }
        const second = yield* two.right.claim("shared")
        isStored(second.stored, 1, [])
        assert.equal(yield* refusal(first.save(save(2))), "Fenced")
        yield* second.save(save(3))
        isStored(yield* read(two.right, "shared"), 3, [])
      })
  ]
]

/**
 * Declares the tests of one store.
 *
 * **Example**
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Checkpoints } from "effect-periscope"
 * import { suite } from "effect-periscope/testing/CheckpointsContract"
 * import { describe, it } from "vitest"
 *
 * suite({ describe, it }, {
 *   name: "memory",
 *   guarantees: { survives: "process", fence: "process" },
 *   make: Effect.map(Checkpoints.makeMemory, (store) => Layer.succeed(Checkpoints.Checkpoints, store))
 * })
 * ```
 *
 * @category tests
 * @since 0.1.0
 */
export const suite = ({ describe, it }: Runner, { name, guarantees, make }: Subject): void => {
  const declare = (tests: ReadonlyArray<readonly [name: string, test: Test]>) => {
    for (const [title, test] of tests) {
      it(title, () => Effect.runPromise(Effect.scoped(Effect.flatMap(make, test))))
    }
  }
  describe(`Checkpoints contract: ${name}`, () => {
    declare([
      [
        "the store declares what is tested here",
        (place) => within(place, (store) => Effect.sync(() => assert.deepEqual(store.guarantees, guarantees)))
      ]
    ])
    declare(records)
    declare(identities)
    declare(claims)
    if (guarantees.survives !== "process") declare(afterReopening)
    if (guarantees.fence === "store") declare(betweenProcesses)
  })
}
