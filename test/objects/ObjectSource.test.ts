import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, FastCheck, Option, Schema, TestClock, TestContext } from "effect"
import { Checkpoints, Source, Watcher } from "effect-periscope"
import type { Change } from "effect-periscope"
import { Memory, ObjectSource, ObjectStore } from "effect-periscope/objects"

type Store = Context.Tag.Service<ObjectStore.ObjectStore>

const tell = ({ _tag, key }: Change.Change<unknown>) => `${_tag} ${key}`

const failure = (reason: ObjectStore.Reason, status?: number) =>
  new ObjectStore.ObjectStoreError({ reason, store: "memory://", operation: "listPage", message: reason, status })

/** A store in memory whose pages may be changed, or fail, on their way. */
const store = (options: Memory.Options = {}) =>
  Effect.map(Memory.make(options), (memory) => {
    let through = (page: ObjectStore.ObjectPage, _: number): ObjectStore.ObjectPage | ObjectStore.ObjectStoreError =>
      page
    // a page that is asked for again has the same number
    const numbers = new Map<string | undefined, number>([[undefined, 1]])
    const listPage = (asked?: ObjectStore.ListPageOptions) =>
      Effect.flatMap(memory.listPage(asked), (page) => {
        const number = numbers.get(asked?.token) ?? 0
        if (page.next !== undefined) numbers.set(page.next, number + 1)
        const seen = through(page, number)
        return seen instanceof ObjectStore.ObjectStoreError ? seen : Effect.succeed(seen)
      })
    return { ...memory, listPage, through: (change: typeof through) => void (through = change) }
  })

const over = (of: Store, options: ObjectSource.Options = {}) =>
  Source.provideContext(ObjectSource.make(options), Context.make(ObjectStore.ObjectStore, of))

const watch = (of: Store, options: ObjectSource.Options = {}) =>
  Effect.gen(function* () {
    const seen: Array<Change.Change<ObjectStore.ObjectMeta>> = []
    const watcher = yield* Watcher.make(over(of, options), { interval: "10 seconds" })
    yield* Effect.fork(watcher.runForEach((change) => Effect.sync(() => seen.push(change))))
    yield* TestClock.adjust(0)
    return { watcher, changes: () => seen.splice(0), told: () => seen.splice(0).map(tell) }
  })

const walk = TestClock.adjust("10 seconds")

const files = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, n) => [`f${n + 10}`, "x"]))

describe("ObjectSource: what is watched", () => {
  it.scoped("O4 a prefix is a path, with `rawPrefix` any text", () =>
    Effect.gen(function* () {
      const memory = yield* Memory.make({ objects: { configs: "", "configs/a": "", "configs2/a": "", "/x": "" } })
      const keys = (options: ObjectSource.Options) =>
        Effect.map(Watcher.once(over(memory, options)), (changes) => changes.map(({ key }) => key).join())
      assert.strictEqual(yield* keys({ prefix: "configs" }), "configs/a")
      assert.strictEqual(yield* keys({ prefix: "configs/" }), "configs/a")
      assert.strictEqual(yield* keys({ prefix: "configs", rawPrefix: true }), "configs,configs/a,configs2/a")
      assert.strictEqual(yield* keys({ prefix: "/", rawPrefix: true }), "/x")
      assert.strictEqual(yield* keys({}), "/x,configs,configs/a,configs2/a")
    })
  )

  it.scoped("O4 `skipFolderObjects` leaves out empty objects that end in a slash, and no others", () =>
    Effect.gen(function* () {
      const memory = yield* Memory.make({ objects: { "a/": "", "b/": "not empty", c: "", "d/e": "" } })
      const all = yield* Watcher.once(over(memory))
      const some = yield* Watcher.once(over(memory, { skipFolderObjects: true }))
      assert.deepEqual([all.length, some.map(({ key }) => key).join()], [4, "b/,c,d/e"])
    })
  )

  it.scoped("O3b `previous` is what the store said, and unknown where the snapshot is compact", () =>
    Effect.gen(function* () {
      const memory = yield* Memory.make({ objects: { a: "1" } })
      const before = yield* memory.head("a")
      const full = yield* watch(memory)
      const compact = yield* watch(memory, { snapshot: "compact" })
      full.changes()
      compact.changes()
      yield* memory.put("a", "22")
      yield* walk
      const [modified] = full.changes()
      assert.deepEqual(modified?._tag === "Modified" ? modified.previous : undefined, Option.some(before))
      const [without] = compact.changes()
      assert.deepEqual(without?._tag === "Modified" ? without.previous : undefined, Option.none())
      assert.deepEqual(without?._tag === "Modified" ? without.value.size : undefined, 2)
    })
  )

  it("O3b every description of an object is kept as it is, and each version is another", async () => {
    const text = FastCheck.oneof(
      FastCheck.fullUnicodeString(),
      FastCheck.constantFrom(",", "1,2", '"e"', "v1", "e1")
    ).filter((one) => !/^(?:W\/)?(?:"")?$/.test(one))
    const description = FastCheck.record(
      { size: FastCheck.maxSafeNat(), etag: text, version: text, lastModifiedMillis: FastCheck.maxSafeInteger() },
      { requiredKeys: ["size"] }
    )
    await FastCheck.assert(
      FastCheck.asyncProperty(description, description, async (first, second) => {
        const token = ({ etag, lastModifiedMillis, size, version }: typeof first) =>
          etag !== undefined
            ? ["etag", etag]
            : version !== undefined
              ? ["version", version]
              : ["time", size, lastModifiedMillis ?? null]
        const told = await Effect.runPromise(
          Effect.scoped(
            Effect.gen(function* () {
              const memory = yield* store({ objects: { a: "" } })
              let now = first
              memory.through(() => ({ objects: [{ key: "a", ...now }] }))
              const { changes } = yield* watch(memory)
              changes()
              now = second
              yield* walk
              return changes()
            })
          ).pipe(Effect.provide(TestContext.TestContext))
        )
        const isSame = JSON.stringify(token(first)) === JSON.stringify(token(second))
        const [change] = told
        assert.strictEqual(told.length, isSame ? 0 : 1)
        if (change !== undefined) {
          assert.deepEqual(
            change._tag === "Modified" ? change.previous : undefined,
            Option.some({ key: "a", ...first })
          )
        }
      }),
      { numRuns: 200 }
    )
  })

  it.scoped("O1 an ETag of quotes with nothing in them is none: size and time tell the versions apart", () =>
    Effect.gen(function* () {
      for (const etag of ['""', 'W/""', ""]) {
        const memory = yield* store()
        let size = 1
        memory.through(() => ({ objects: [{ key: "a", size, etag, lastModifiedMillis: 5 }] }))
        const { changes } = yield* watch(memory)
        changes()
        yield* walk
        assert.deepEqual(changes(), [])
        size = 2
        yield* walk
        const [change] = changes()
        assert.deepEqual(change?._tag === "Modified" ? change.value : change, {
          key: "a",
          size: 2,
          lastModifiedMillis: 5
        })
      }
    })
  )

  it.scoped("W10 the first page is handed out before the second is asked for", () =>
    Effect.gen(function* () {
      const memory = yield* store({ objects: files(4), pageSize: 2 })
      memory.through((page, n) => (n === 1 ? page : failure("Network")))
      const { told } = yield* watch(memory)
      assert.deepEqual(told(), ["Added f10", "Added f11"])
    })
  )

  it.scoped("a checkpoint of another store or prefix is refused", () =>
    Effect.gen(function* () {
      const one = yield* Memory.make({ identity: "memory://one", objects: { a: "" } })
      const two = yield* Memory.make({ identity: "memory://two", objects: { a: "" } })
      const once = (of: Store, options?: ObjectSource.Options) =>
        Effect.map(Effect.exit(Watcher.once(over(of, options), { checkpoint: "objects" })), (exit) =>
          Exit.isSuccess(exit) ? exit.value.length : exit.cause.toString()
        )
      assert.strictEqual(yield* once(one), 1)
      assert.strictEqual(yield* once(one), 0)
      assert.match(
        String(yield* once(two)),
        /belongs to the source "objects:memory:\/\/one", not to "objects:memory:\/\/two"/
      )
      assert.match(String(yield* once(one, { prefix: "a" })), /not to "objects:memory:\/\/one a\/"/)
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it("options that make no sense are refused with a sentence", () => {
    const refused: ReadonlyArray<readonly [ObjectSource.Options, RegExp]> = [
      [{ prefix: "/a" }, /`prefix` is "\/a"; keys do not begin with a slash/],
      [{ pageSize: 0 }, /`pageSize` is 0/],
      [{ pageSize: 1.5 }, /`pageSize` is 1.5/],
      [{ minAge: Number.NaN }, /`minAge` is NaN/],
      [{ minAge: -1 }, /`minAge` is -1/],
      [{ minAge: "infinity" as never }, /`minAge` is infinity/],
      [{ name: "" }, /`name` is empty/],
      [{ maxPages: 0 }, /`maxPages` is 0/]
    ]
    for (const [options, sentence] of refused) assert.throws(() => ObjectSource.make(options), sentence)
  })
})

describe("ObjectSource: minAge", () => {
  const young = { minAge: "15 seconds" } as const

  it.scoped("O7 a young object waits, then its last version is reported, once", () =>
    Effect.gen(function* () {
      const memory = yield* Memory.make()
      const { changes, told } = yield* watch(memory, young)
      yield* memory.put("a", "1")
      yield* walk
      assert.deepEqual(told(), [])
      yield* memory.put("a", "22")
      yield* walk
      assert.deepEqual(told(), [])
      yield* walk
      assert.deepEqual(
        changes().map((change) => [tell(change), change._tag === "Removed" ? 0 : change.value.size]),
        [["Added a", 2]]
      )
      yield* walk
      assert.deepEqual(told(), [])
    })
  )

  it.scoped(
    "O7 a young object that goes was never there; one that was known is not removed while it is written again",
    () =>
      Effect.gen(function* () {
        const memory = yield* Memory.make({ objects: { ...files(1) } })
        yield* TestClock.adjust("1 minute")
        const { told } = yield* watch(memory, young)
        assert.deepEqual(told(), ["Added f10"])
        yield* memory.put("new", "1")
        yield* memory.put("f10", "22")
        yield* walk
        assert.deepEqual(told(), [])
        yield* memory.remove("new")
        yield* walk
        assert.deepEqual(told(), ["Modified f10"])
        yield* memory.put("f10", "333")
        yield* memory.remove("f10")
        yield* memory.put("other", "")
        yield* walk
        yield* walk
        assert.deepEqual(told(), ["Added other"], "all known objects are missing: that is held back")
        yield* walk
        assert.deepEqual(told(), ["Removed f10"])
      })
  )

  it.scoped("O7 the clock of the store counts, whatever ours says; a time far in the future is no age", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("2 hours")
      const hour = 3_600_000
      const memory = yield* store()
      let storeNow = hour
      memory.through(() => ({
        objects: [
          { key: "future", size: 0, lastModifiedMillis: 10 * hour },
          { key: "timeless", size: 0 },
          { key: "young", size: 0, lastModifiedMillis: hour }
        ],
        nowMillis: storeNow
      }))
      const { told } = yield* watch(memory, young)
      assert.deepEqual(told(), ["Added future", "Added timeless"])
      storeNow += 15_000
      yield* walk
      assert.deepEqual(told(), ["Added young"])
    })
  )
})

describe("ObjectSource: removals", () => {
  for (const reason of ObjectStore.Reason.literals) {
    it.scoped(`O2 ${reason} on any page removes nothing, and the listing goes on`, () =>
      Effect.gen(function* () {
        const memory = yield* store({ objects: files(20), pageSize: 3 })
        const { told } = yield* watch(memory)
        assert.strictEqual(told().length, 20)
        for (const at of [1, 3, 7]) {
          memory.through((page, n) => (n === at ? failure(reason, 503) : page))
          yield* TestClock.adjust("30 seconds")
          assert.deepEqual(told(), [], `page ${at}`)
        }
        memory.through((page) => page)
        yield* memory.remove("f11")
        yield* memory.put("f99", "")
        yield* TestClock.adjust("6 minutes")
        assert.sameMembers(told(), ["Removed f11", "Added f99"])
      })
    )
  }

  it.scoped("O2 a token that is refused, or leads in a circle, removes nothing", () =>
    Effect.gen(function* () {
      const memory = yield* store({ objects: files(20), pageSize: 3 })
      const { told, watcher } = yield* watch(memory)
      told()
      memory.through((page) => ({ ...page, next: "after:f10" }))
      yield* TestClock.adjust("10 minutes")
      const { phase } = yield* watcher.status.get
      assert.deepEqual([told(), phase._tag], [[], "Backoff"])
      memory.through((page) => page)
      yield* memory.remove("f11")
      yield* TestClock.adjust("10 minutes")
      assert.deepEqual(told(), ["Removed f11"])
    })
  )

  const vanish = (memory: Store) =>
    Effect.forEach(
      Array.from({ length: 8 }, (_, n) => `f${n + 10}`),
      (key) => memory.remove(key)
    )

  it.scoped("O3 40 % that vanish are held back for three listings; additions flow, and the status says so", () =>
    Effect.gen(function* () {
      const memory = yield* store({ objects: files(20), pageSize: 7 })
      const { told, watcher } = yield* watch(memory)
      told()
      yield* vanish(memory)
      yield* memory.put("new", "")
      yield* walk
      assert.deepEqual(told(), ["Added new"])
      const { phase } = yield* watcher.status.get
      assert.deepEqual(
        phase._tag === "Guarded"
          ? [phase.plan.keys.length, phase.plan.listings, phase.plan.confirmListings]
          : phase._tag,
        [8, 1, 3]
      )
      memory.through((page, n) => (n === 2 ? failure("Network") : page))
      yield* TestClock.adjust("1 minute")
      assert.deepEqual(told(), [], "a listing that fails confirms nothing")
      memory.through((page) => page)
      yield* TestClock.adjust("10 minutes")
      assert.deepEqual(
        told().map((line) => line.slice(0, 8)),
        Array.from({ length: 8 }, () => "Removed ")
      )
    })
  )

  it.scoped("O3 the plan outlives a restart, and `approve` releases it", () =>
    Effect.gen(function* () {
      const memory = yield* store({ objects: files(20), pageSize: 7 })
      const restarted = (approves: boolean) =>
        Effect.scoped(
          Effect.gen(function* () {
            const seen: Array<string> = []
            const options = { checkpoint: "objects", interval: "10 seconds" } as const
            const watcher = yield* Watcher.make(over(memory), options)
            yield* Effect.fork(watcher.runForEach((change) => Effect.sync(() => seen.push(tell(change)))))
            yield* TestClock.adjust(0)
            if (approves) {
              yield* watcher.approve
              yield* TestClock.adjust("1 second")
            }
            const { phase } = yield* watcher.status.get
            return { seen, listings: phase._tag === "Guarded" ? phase.plan.listings : 0 }
          })
        )
      assert.strictEqual((yield* restarted(false)).seen.length, 20)
      yield* vanish(memory)
      assert.deepEqual(yield* restarted(false), { seen: [], listings: 1 })
      assert.deepEqual(yield* restarted(false), { seen: [], listings: 2 })
      const approved = yield* restarted(true)
      assert.deepEqual([approved.seen.length, approved.listings], [8, 0])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})

describe("ObjectMeta", () => {
  it("reads back what it writes, without what is not there", () => {
    const meta = { key: "a", size: 1, lastModifiedMillis: 5 }
    assert.deepEqual(Schema.decodeSync(ObjectStore.ObjectMeta)(Schema.encodeSync(ObjectStore.ObjectMeta)(meta)), meta)
  })
})
