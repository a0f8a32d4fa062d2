import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, FastCheck, Fiber, Option, Schedule, Schema, TestClock } from "effect"
import type { Change } from "effect-periscope"
import { Checkpoints, Source, Watcher } from "effect-periscope"

const Item = Schema.Struct({ id: Schema.String, size: Schema.Number })
type Item = typeof Item.Type

type Page = Source.ListPage<Item, string, number>

const items = (...ids: ReadonlyArray<string>): ReadonlyArray<Item> => ids.map((id) => ({ id, size: 1 }))

/** A listing whose pages are looked up by token; asked tokens are noted down. */
const paged = (
  options: Partial<Source.ListingOptions<Item, Item, string, string, never, number>> & { readonly plain?: boolean } = {}
) => {
  const asked: Array<string | undefined> = []
  let answer: (
    token: string | undefined,
    validator: number | undefined
  ) => Page | string | Source.Unchanged<number> = () => ({
    items: []
  })
  const { plain, ...rest } = options
  const source = Source.fromListing<Item, Item, string, string, never, number>({
    name: "listing",
    item: Item,
    key: ({ id }) => id,
    ...(plain === true ? {} : { version: ({ size }: Item) => String(size) }),
    list: (token, validator) =>
      Effect.suspend(() => {
        asked.push(token)
        const page = answer(token, validator)
        return typeof page === "string" ? Effect.fail(page) : Effect.succeed(page)
      }),
    ...rest
  })
  return { source, asked, set: (next: typeof answer) => void (answer = next) }
}

const tell = ({ _tag, key }: Change.Change<unknown>) => `${_tag} ${key}`

const watch = (source: Source.Source<Item, string | Source.ListingError>) =>
  Effect.gen(function* () {
    const seen: Array<string> = []
    const watcher = yield* Watcher.make(source, { interval: "10 seconds" })
    yield* Effect.fork(watcher.runForEach((change) => Effect.sync(() => seen.push(tell(change)))))
    yield* TestClock.adjust(0)
    return { seen, watcher, take: () => seen.splice(0) }
  })

const isGuarded = <E>(watcher: Watcher.Watcher<unknown, E>) =>
  Effect.map(watcher.status.get, ({ phase }) => (phase._tag === "Guarded" ? phase.plan.keys.join() : phase._tag))

const walk = TestClock.adjust("10 seconds")

describe("listing: walks", () => {
  it.effect.prop(
    "what is delivered over random listings makes the consumer's view equal to the listing",
    [
      FastCheck.array(
        FastCheck.uniqueArray(FastCheck.tuple(FastCheck.nat(30), FastCheck.nat(1)), {
          selector: ([id]) => id,
          maxLength: 25
        }),
        { minLength: 1, maxLength: 5 }
      ),
      FastCheck.integer({ min: 1, max: 7 })
    ],
    ([listings, size]) =>
      Effect.gen(function* () {
        const { set, source } = paged({ removalGuard: false })
        const view = new Map<string, number>()
        let found: ReadonlyArray<Item> = []
        set((token) => {
          const from = Number(token ?? 0)
          const next = from + size
          return { items: found.slice(from, next), ...(next < found.length ? { next: String(next) } : {}) }
        })
        for (const listing of listings) {
          found = listing.map(([id, version]) => ({ id: `k${id}`, size: version }))
          for (const change of yield* Watcher.once(source, { checkpoint: "l" })) {
            if (change._tag === "Removed") {
              assert.deepStrictEqual(change.previous, Option.some({ id: change.key, size: view.get(change.key)! }))
              assert.isTrue(view.delete(change.key))
            } else {
              assert.strictEqual(view.has(change.key), change._tag === "Modified")
              if (change._tag === "Modified") {
                assert.deepStrictEqual(change.previous, Option.some({ id: change.key, size: view.get(change.key)! }))
              }
              view.set(change.key, change.value.size)
            }
          }
          assert.deepStrictEqual(view, new Map(found.map((item) => [item.id, item.size])))
        }
      }).pipe(Effect.provide(Checkpoints.layerMemory)),
    { fastCheck: { numRuns: 60 } }
  )

  it.scoped("a failed page is asked for again with its token, and nothing is removed by the walk it is in", () =>
    Effect.gen(function* () {
      const { asked, set, source } = paged()
      set(() => ({ items: items("a", "b", "c", "d") }))
      const { take } = yield* watch(source)
      take()
      let isBroken = true
      set((token) =>
        token === undefined ? { items: items("a"), next: "2" } : isBroken ? "reset" : { items: items("c", "d") }
      )
      yield* TestClock.adjust("30 seconds")
      assert.deepStrictEqual([asked, take()], [[undefined, undefined, "2", "2"], []])
      isBroken = false
      yield* TestClock.adjust("40 seconds")
      assert.deepStrictEqual([asked.slice(4), take()], [["2"], ["Removed b"]])
    })
  )

  it.scoped("a refused token starts the walk over: at once by `isStaleToken`, else after `maxPageAttempts`", () =>
    Effect.gen(function* () {
      for (const [options, tries] of [
        [{ isStaleToken: (error: string) => error === "expired" }, 1],
        [{ maxPageAttempts: 3 }, 3],
        [{}, 5]
      ] as const) {
        const { asked, set, source } = paged(options)
        set((token) => (token === undefined ? { items: items("a"), next: "2" } : "expired"))
        yield* watch(source)
        yield* TestClock.adjust("24 minutes")
        assert.deepStrictEqual(asked.slice(0, tries + 2), [
          undefined,
          ...Array.from({ length: tries }, () => "2"),
          undefined
        ])
      }
    })
  )

  it.scoped(
    "a page that names itself as the next one, and more than `maxPages`, fail with a sentence and start over",
    () =>
      Effect.gen(function* () {
        const { asked, set, source } = paged({ maxPages: 3 })
        set((token) => ({ items: [], next: token === undefined ? "same" : "same" }))
        const error = yield* Effect.flip(Watcher.once(source))
        assert.isTrue(error instanceof Source.ListingError && error.reason === "NoProgress")
        set((token) => ({ items: [], next: `${token ?? ""}+` }))
        asked.length = 0
        const many = yield* Effect.flip(Watcher.once(source))
        assert.isTrue(
          many instanceof Source.ListingError && many.reason === "TooManyPages" && /`maxPages`/.test(many.message)
        )
        assert.deepStrictEqual(asked, [undefined, "+", "++"])
        asked.length = 0
        yield* watch(source)
        yield* TestClock.adjust("20 seconds")
        assert.deepStrictEqual(asked.slice(0, 4), [undefined, "+", "++", undefined])
      })
  )

  it.scoped("pages that lead in a circle of any length fail with a sentence and start over", () =>
    Effect.gen(function* () {
      for (const [lead, length] of [
        [0, 1],
        [1, 2],
        [3, 7],
        [10, 3]
      ] as const) {
        const { asked, set, source } = paged({ maxPageAttempts: 1 })
        set(() => ({ items: items("a") }))
        const { take, watcher } = yield* watch(source)
        // pages 0, 1, ..., and behind the last one the first of the circle
        set((token) => {
          const page = Number(token ?? 0)
          return { items: [], next: String(page + 1 < lead + length ? page + 1 : Math.max(lead, 1)) }
        })
        yield* walk
        const { phase } = yield* watcher.status.get
        assert.include(phase._tag === "Backoff" ? String(phase.error) : phase._tag, "lead in a circle")
        assert.isBelow(asked.length, 4 * (lead + length) + 4)
        assert.deepStrictEqual(take(), ["Added a"])
      }
    })
  )

  it.scoped("a listing that says Unchanged to its validator is a complete observation without a change", () =>
    Effect.gen(function* () {
      const given: Array<number | undefined> = []
      const { set, source } = paged()
      let version = 1
      let found = items("a", "b")
      set((token, validator) => {
        given.push(validator)
        return validator === version ? { _tag: "Unchanged" } : { items: found, validator: version }
      })
      const { take, watcher } = yield* watch(source)
      yield* watcher.awaitSynced
      yield* walk
      yield* walk
      assert.deepStrictEqual(
        [given.splice(0), take()],
        [
          [undefined, 1, 1],
          ["Added a", "Added b"]
        ]
      )
      version = 2
      found = items("a", "c")
      yield* walk
      // something was missing in that walk: the next one is asked for whole
      yield* walk
      yield* walk
      assert.deepStrictEqual(
        [given.splice(0), take()],
        [
          [1, undefined, 2],
          ["Added c", "Removed b"]
        ]
      )
      // it may bring another validator
      set((_, validator) => {
        given.push(validator)
        return { _tag: "Unchanged", validator: 7 }
      })
      yield* walk
      yield* walk
      assert.deepStrictEqual([given.splice(0), take()], [[2, 7], []])
      // several pages have no validator, nor has a walk after which removals are held back
      set((token, validator) => {
        given.push(validator)
        return token === undefined
          ? { items: items("a"), next: "2", validator: 3 }
          : { items: items("c"), validator: 4 }
      })
      yield* walk
      yield* walk
      set((_, validator) => {
        given.push(validator)
        return { items: [], validator: 5 }
      })
      yield* walk
      yield* walk
      assert.deepStrictEqual(given, [7, undefined, undefined, undefined, undefined, undefined])
      assert.strictEqual(yield* isGuarded(watcher), "a,c")
    })
  )

  it.scoped("a listing that says Unchanged to nothing is wrong, and removes nothing", () =>
    Effect.gen(function* () {
      const { set, source } = paged()
      set(() => ({ items: items("a") }))
      const { take, watcher } = yield* watch(source)
      set(() => ({ _tag: "Unchanged" }))
      yield* walk
      const { phase } = yield* watcher.status.get
      assert.include(phase._tag === "Backoff" ? String(phase.error) : phase._tag, "was given no validator")
      assert.deepStrictEqual(take(), ["Added a"])
    })
  )

  it.effect("a crash within a walk starts it over; delivered pages do not come again", () =>
    Effect.gen(function* () {
      const { asked, set, source } = paged()
      set((token) => (token === undefined ? { items: items("a"), next: "2" } : "down"))
      yield* Effect.ignore(Watcher.runForEach(source, () => Effect.void, { checkpoint: "l", retry: Schedule.stop }))
      set((token) => (token === undefined ? { items: items("a"), next: "2" } : { items: items("b") }))
      assert.deepStrictEqual((yield* Watcher.once(source, { checkpoint: "l" })).map(tell), ["Added b"])
      assert.deepStrictEqual(asked, [undefined, "2", undefined, "2"])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("O5 a key that comes twice in a listing gives one event", () =>
    Effect.gen(function* () {
      const { set, source } = paged()
      set((token) => (token === undefined ? { items: items("b", "a", "b"), next: "2" } : { items: items("a", "c") }))
      assert.deepStrictEqual((yield* Watcher.once(source)).map(tell), ["Added a", "Added b", "Added c"])
    })
  )

  it.scoped("O5 a key that comes with another version on a later page is no change while the listing rests", () =>
    Effect.gen(function* () {
      const { set, source } = paged()
      let size = 2
      set((token) => (token === undefined ? { items: items("a", "b"), next: "2" } : { items: [{ id: "a", size }] }))
      const { take } = yield* watch(source)
      assert.deepStrictEqual(take(), ["Added a", "Added b"])
      yield* walk
      yield* walk
      assert.deepStrictEqual(take(), [])
      // what moved to a later page as it changed is found there by the next walk
      size = 3
      set(() => ({ items: [...items("b"), { id: "a", size }] }))
      yield* walk
      assert.deepStrictEqual(take(), ["Modified a"])
    })
  )

  it.effect("keys of any text live through a restart, and one that is no Unicode is refused, not mangled", () =>
    Effect.gen(function* () {
      const odd = ["", "\n", "a\nb", "\u0000", "\ufeffbom", "\u{1f600}", "\uffff", "\ue000"]
      const { set, source } = paged()
      set(() => ({ items: items(...odd) }))
      assert.strictEqual((yield* Watcher.once(source, { checkpoint: "l" })).length, odd.length)
      assert.deepStrictEqual(yield* Watcher.once(source, { checkpoint: "l" }), [])
      set(() => ({ items: items(...odd, "x\ud800y") }))
      const error = yield* Effect.flip(Watcher.once(source, { checkpoint: "l" }))
      assert.isTrue(
        error instanceof Source.ListingError && error.reason === "Unencodable" && /x\\ud800y/.test(error.message)
      )
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})

describe("listing: what is kept", () => {
  const modified = (options: Parameters<typeof paged>[0], before: Item, after: Item) =>
    Effect.gen(function* () {
      const { set, source } = paged(options)
      set(() => ({ items: [before] }))
      yield* Watcher.once(source, { checkpoint: "l" })
      assert.deepStrictEqual(yield* Watcher.once(source, { checkpoint: "l" }), [])
      set(() => ({ items: [after] }))
      const changes = yield* Watcher.once(source, { checkpoint: "l" })
      set(() => ({ items: [] }))
      const removed = yield* Watcher.once(source, { checkpoint: "l" })
      return [...changes, ...removed].map((change) => [
        tell(change),
        change._tag === "Added" ? undefined : Option.getOrUndefined(change.previous)?.size
      ])
    }).pipe(Effect.provide(Checkpoints.layerMemory))

  const one = { id: "a", size: 1 }
  const two = { id: "a", size: 2 }
  const off = { removalGuard: false } as const

  it.effect("items are kept for `previous`, with or without a `version`", () =>
    Effect.gen(function* () {
      const expected = [
        ["Modified a", 1],
        ["Removed a", 2]
      ]
      assert.deepStrictEqual(yield* modified(off, one, two), expected)
      assert.deepStrictEqual(yield* modified({ ...off, plain: true }, one, two), expected)
    })
  )

  it.effect("O3b `compact` keeps no item: `previous` is unknown", () =>
    Effect.gen(function* () {
      const expected = [
        ["Modified a", undefined],
        ["Removed a", undefined]
      ]
      assert.deepStrictEqual(yield* modified({ ...off, snapshot: "compact" }, one, two), expected)
      assert.deepStrictEqual(yield* modified({ ...off, snapshot: "compact", plain: true }, one, two), expected)
    })
  )

  it.effect("D3 `maxPreviousBytes` bounds what is kept of an item", () =>
    Effect.gen(function* () {
      const long = { id: "a", size: 1234567890 }
      const expected = [
        ["Modified a", undefined],
        ["Removed a", 1]
      ]
      const maxPreviousBytes = JSON.stringify(one).length
      assert.deepStrictEqual(yield* modified({ ...off, maxPreviousBytes }, long, one), expected)
      assert.deepStrictEqual(yield* modified({ ...off, maxPreviousBytes, plain: true }, long, one), expected)
    })
  )

  it.effect("without a `version` the item itself decides, and a `version` that stays hides a new item", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* modified({ ...off, version: () => "same" }, one, two), [["Removed a", 1]])
    })
  )

  it("refuses options that cannot work", () => {
    assert.throws(() => paged({ maxPages: 0 }), /`maxPages` is 0/)
    assert.throws(() => paged({ confirmRemovals: 0 }), /`confirmRemovals` is 0/)
    assert.throws(() => paged({ maxPageAttempts: 1.5 }), /`maxPageAttempts` is 1.5/)
    assert.throws(() => paged({ maxPreviousBytes: Number.NaN }), /`maxPreviousBytes` is NaN/)
    assert.throws(() => paged({ removalGuard: { confirmListings: 0 } }), /`confirmListings` is 0/)
  })
})

describe("listing: removal guard", () => {
  const ten = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]

  it.scoped("O3 holds a mass removal back, and lets additions and changes through", () =>
    Effect.gen(function* () {
      const { set, source } = paged()
      set(() => ({ items: items(...ten) }))
      const { take, watcher } = yield* watch(source)
      take()
      set(() => ({ items: [...items("a", "b", "c", "d", "e", "x"), { id: "f", size: 2 }] }))
      yield* walk
      assert.deepStrictEqual(take(), ["Modified f", "Added x"])
      assert.strictEqual(yield* isGuarded(watcher), "g,h,i,j")
      set(() => ({ items: items("a", "b", "c", "d", "e", "f", "g", "x") }))
      yield* walk
      // 3 of 10 are no mass removal: believed at once
      assert.deepStrictEqual(take(), ["Modified f", "Removed h", "Removed i", "Removed j"])
      assert.strictEqual(yield* isGuarded(watcher), "Live")
    })
  )

  it.scoped("O3 all known keys missing is held whatever their number, and confirmed by 3 walks in a row", () =>
    Effect.gen(function* () {
      const { set, source } = paged()
      set(() => ({ items: items("a", "b") }))
      const { take, watcher } = yield* watch(source)
      take()
      set(() => ({ items: [] }))
      yield* walk
      yield* walk
      assert.deepStrictEqual([take(), yield* isGuarded(watcher)], [[], "a,b"])
      yield* walk
      assert.deepStrictEqual([take(), yield* isGuarded(watcher)], [["Removed a", "Removed b"], "Live"])
    })
  )

  it.scoped("O3 additions while removals are held do not disarm the guard", () =>
    Effect.gen(function* () {
      const { set, source } = paged()
      set(() => ({ items: items(...ten) }))
      const { take, watcher } = yield* watch(source)
      set(() => ({ items: items(...ten.slice(0, 5), ...Array.from({ length: 90 }, (_, index) => `new${index}`)) }))
      yield* walk
      yield* walk
      assert.isFalse(take().some((line) => line.startsWith("Removed")))
      assert.strictEqual(yield* isGuarded(watcher), "f,g,h,i,j")
    })
  )

  it.scoped("O3 `approve` during a walk releases nothing but the plan, also where all keys of that come back", () =>
    Effect.gen(function* () {
      const { set, source } = paged()
      set(() => ({ items: items(...ten) }))
      const { take, watcher } = yield* watch(source)
      take()
      set(() => ({ items: items("a", "f", "g", "h", "i", "j") }))
      yield* walk
      assert.strictEqual(yield* isGuarded(watcher), "b,c,d,e")
      // page 1 has been seen; page 2 brings the plan back, and others are missing now
      set((token) => (token === undefined ? { items: items("a"), next: "2" } : "down"))
      yield* walk
      yield* watcher.approve
      set(() => ({ items: items("b", "c", "d", "e") }))
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual([take(), yield* isGuarded(watcher)], [[], "f,g,h,i,j"])
    })
  )

  it.scoped(
    "O3 `approve` between walks releases at once and polls again, during a walk at its end what it misses",
    () =>
      Effect.gen(function* () {
        const { asked, set, source } = paged()
        set(() => ({ items: items(...ten) }))
        const { take, watcher } = yield* watch(source)
        set(() => ({ items: [] }))
        yield* walk
        take()
        yield* watcher.approve
        yield* TestClock.adjust(0)
        assert.deepStrictEqual(
          take(),
          ten.map((key) => `Removed ${key}`)
        )
        assert.strictEqual(asked.length, 3)
        // approving when nothing is held changes nothing
        set(() => ({ items: items(...ten) }))
        yield* watcher.approve
        yield* walk
        take()
        // page 1 has been seen, page 2 is under way
        set(() => ({ items: [] }))
        yield* walk
        set((token) => (token === undefined ? { items: items("a"), next: "2" } : "down"))
        yield* walk
        yield* watcher.approve
        yield* TestClock.adjust(0)
        assert.deepStrictEqual(take(), [])
        set(() => ({ items: items("b") }))
        yield* TestClock.adjust("20 seconds")
        assert.deepStrictEqual(
          take(),
          ten.slice(2).map((key) => `Removed ${key}`)
        )
      })
  )

  it.scoped("O3 `removalGuard: false` believes every complete walk", () =>
    Effect.gen(function* () {
      const { set, source } = paged({ removalGuard: false })
      set(() => ({ items: items(...ten) }))
      const { take } = yield* watch(source)
      take()
      set(() => ({ items: [] }))
      yield* walk
      assert.strictEqual(take().length, 10)
    })
  )

  it.effect("O3 the pages of a first walk that a crash cut short count as known", () =>
    Effect.gen(function* () {
      const { set, source } = paged()
      set((token) => (token === undefined ? { items: items("a", "b", "c", "d"), next: "2" } : "down"))
      const options = { checkpoint: "cut" }
      yield* Effect.exit(Watcher.once(source, options))
      set(() => ({ items: items("a", "b", "c") }))
      const found = yield* Watcher.once(source, options)
      assert.deepStrictEqual(found.map(tell), ["Removed d"])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("O3 the plan survives a restart: its walks count on", () =>
    Effect.gen(function* () {
      const { set, source } = paged()
      set(() => ({ items: items(...ten) }))
      const once = Effect.map(Watcher.once(source, { checkpoint: "l" }), (changes) => changes.length)
      assert.strictEqual(yield* once, 10)
      set(() => ({ items: [] }))
      assert.deepStrictEqual([yield* once, yield* once, yield* once, yield* once], [0, 0, 10, 0])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("released removals come in batches of 1000, before any poll, also after a restart", () =>
    Effect.gen(function* () {
      const { asked, set, source } = paged({ removalGuard: false })
      set(() => ({ items: items(...Array.from({ length: 2500 }, (_, index) => `k${index}`)) }))
      yield* Watcher.once(source, { checkpoint: "l" })
      set(() => ({ items: [] }))
      const sizes: Array<number> = []
      const gone = new Set<string>()
      const run = Watcher.runForEachBatch(
        source,
        ({ changes }) =>
          Effect.suspend(() => {
            sizes.push(changes.length)
            if (sizes.length === 2) return Effect.fail("crash")
            for (const { _tag, key } of changes) if (_tag === "Removed") gone.add(key)
            return Effect.void
          }),
        { checkpoint: "l", schedule: Schedule.stop }
      )
      assert.deepStrictEqual(yield* Effect.exit(run), Exit.fail("crash"))
      const before = asked.length
      set(() => "down")
      const fiber = yield* Effect.fork(run)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual([sizes, gone.size], [[1000, 1000, 1000, 500], 2500])
      assert.strictEqual(asked.length, before + 1)
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("a released key that is back is Removed and then Added again", () =>
    Effect.gen(function* () {
      const { set, source } = paged()
      set(() => ({ items: items(...ten) }))
      const once = Effect.map(Watcher.once(source, { checkpoint: "l" }), (changes) => changes.map(tell))
      yield* once
      let isBack = false
      set(() => ({ items: isBack ? items(...ten) : items(...ten.slice(1)) }))
      assert.deepStrictEqual(yield* once, ["Removed a"])
      isBack = true
      assert.deepStrictEqual(yield* once, ["Added a"])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})

describe("listing: confirmed removals", () => {
  const ten = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
  const without = (...keys: ReadonlyArray<string>) => ({ items: items(...ten.filter((key) => !keys.includes(key))) })

  it.scoped("`confirmRemovals` walks in a row have to miss a key, each key on its own", () =>
    Effect.gen(function* () {
      const { set, source } = paged({ confirmRemovals: 3 })
      set(() => without())
      const { take, watcher } = yield* watch(source)
      take()
      const told: Array<ReadonlyArray<string>> = []
      for (const missing of [["a"], ["a", "b"], ["b"], ["a", "b"], ["a"], ["a"], []]) {
        set(() => without(...missing))
        yield* walk
        told.push(take())
      }
      assert.deepStrictEqual(told, [[], [], [], ["Removed b"], ["Added b"], ["Removed a"], ["Added a"]])
      assert.strictEqual(yield* isGuarded(watcher), "Live")
    })
  )

  it.scoped("a key that a page of a cut walk shows was not missed in a row", () =>
    Effect.gen(function* () {
      const { set, source } = paged({ confirmRemovals: 2, maxPageAttempts: 1 })
      set(() => without())
      const { take } = yield* watch(source)
      take()
      set(() => without("a"))
      yield* walk
      set((token) => (token === undefined ? { items: items("a"), next: "2" } : "reset"))
      yield* walk
      set(() => without("a"))
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(take(), [])
      yield* walk
      assert.deepStrictEqual(take(), ["Removed a"])
    })
  )

  it.effect("a crash does not forget that a key was there again", () =>
    Effect.gen(function* () {
      const { set, source } = paged({ confirmRemovals: 2 })
      const seen: Array<string> = []
      const life = (...listings: ReadonlyArray<Page>) =>
        Effect.scoped(
          Effect.gen(function* () {
            set(() => listings[0]!)
            const watcher = yield* Watcher.make(source, { interval: "10 seconds", checkpoint: "l" })
            yield* Effect.fork(watcher.runForEach((change) => Effect.sync(() => seen.push(tell(change)))))
            yield* TestClock.adjust(0)
            for (const page of listings.slice(1)) {
              set(() => page)
              yield* walk
            }
            return seen.splice(0)
          })
        )
      yield* life(without())
      // that a is missed is saved with the change of the same walk
      const withK = (page: Page): Page => ({ items: [...page.items, ...items("k")] })
      assert.deepStrictEqual(yield* life(withK(without("a")), withK(without())), ["Added k"])
      assert.deepStrictEqual(yield* life(withK(without("a"))), [])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.scoped("may depend on the number of pages, and an approved removal waits for no walk", () =>
    Effect.gen(function* () {
      const { set, source } = paged({ confirmRemovals: (pages) => pages, removalGuard: { minKnown: 5 } })
      set(() => without())
      const { take, watcher } = yield* watch(source)
      take()
      set(() => without("a"))
      yield* walk
      assert.deepStrictEqual(take(), ["Removed a"])
      const two = (first: ReadonlyArray<string>) => (token: string | undefined) =>
        token === undefined ? { items: items(...first), next: "2" } : { items: [] }
      set(two(["c", "d", "e", "f", "g", "h", "i", "j"]))
      yield* walk
      assert.deepStrictEqual(take(), [])
      yield* walk
      assert.deepStrictEqual(take(), ["Removed b"])
      set(two(["c"]))
      yield* walk
      assert.strictEqual(yield* isGuarded(watcher), "d,e,f,g,h,i,j")
      yield* watcher.approve
      yield* walk
      assert.strictEqual(take().length, 7)
    })
  )

  it.effect("the walks that missed a key are counted over restarts", () =>
    Effect.gen(function* () {
      const { set, source } = paged({ confirmRemovals: 3 })
      set(() => without())
      const once = Effect.map(Watcher.once(source, { checkpoint: "l" }), (changes) => changes.map(tell))
      assert.strictEqual((yield* once).length, 10)
      set(() => without("a"))
      assert.deepStrictEqual([yield* once, yield* once, yield* once, yield* once], [[], [], ["Removed a"], []])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})

describe("listing: what an approval releases", () => {
  const keys = Array.from({ length: 20 }, (_, index) => `k${index + 10}`)

  /** Approves while a poll is under way, which finds other keys missing than were held back before. */
  const approvedDuring = (before: ReadonlyArray<string>, during: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      let now = keys
      let gate: Deferred.Deferred<void> | undefined
      const source = Source.fromListing({
        name: "listing",
        item: Item,
        key: ({ id }) => id,
        version: ({ size }) => String(size),
        list: () =>
          Effect.suspend(() =>
            Effect.as(gate === undefined ? Effect.void : Deferred.await(gate), { items: items(...now) })
          )
      })
      const { take, watcher } = yield* watch(source)
      take()
      now = [...before]
      yield* walk
      gate = yield* Deferred.make<void>()
      now = [...during]
      yield* walk
      yield* watcher.approve
      yield* Deferred.succeed(gate, undefined)
      gate = undefined
      yield* TestClock.adjust("1 second")
      return { told: take(), status: yield* isGuarded(watcher) }
    })

  it.scoped("O3 removals that were not held back yet when it was given stay held back", () =>
    Effect.gen(function* () {
      const other = yield* approvedDuring(keys.slice(10), keys.slice(0, 10))
      assert.deepEqual(other, { told: [], status: keys.slice(10).join() })
      const none = yield* approvedDuring(keys, [])
      assert.deepEqual(none, { told: [], status: keys.join() })
    })
  )

  it.scoped("O3 the removals that were held back are released, also those that a poll under way has confirmed", () =>
    Effect.gen(function* () {
      const same = yield* approvedDuring(keys.slice(10), keys.slice(10))
      assert.deepEqual([same.told.length, same.status], [10, "Live"])
      const fewer = yield* approvedDuring(keys.slice(10), keys.slice(8))
      assert.deepEqual([fewer.told.length, fewer.status], [8, "Live"])
    })
  )
})
