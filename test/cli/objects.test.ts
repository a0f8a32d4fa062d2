/**
 * Goal: what a person is told of a long listing and of removals that are held back, at exact instants and word for word.
 */
import { assert, describe, it } from "@effect/vitest"
import { Checkpoints, Source, Watcher } from "effect-periscope"
import { Memory, ObjectSource, ObjectStore } from "effect-periscope/objects"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { HeldBack } from "../../src/cli/heldBack.js"
import { Progress } from "../../src/cli/progress.js"

const recorded = () => {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => void lines.push(`${logLevel._tag} ${String(message)}`))
  return { lines, layer: Logger.replace(Logger.defaultLogger, logger) }
}

describe("Progress", () => {
  /** Pages of 1000 objects, each of which takes 4 s. */
  const slow = (pages: () => number): Context.Tag.Service<typeof ObjectStore.ObjectStore> => {
    const never = () => Effect.dieMessage("not asked for")
    return ObjectStore.make({
      identity: "slow",
      listPage: ({ token = "0" } = {}) =>
        Effect.delay(
          Effect.sync(() => ({
            objects: Array.from({ length: 1000 }, (_, n) => ({ key: `${token}-${n}`, size: 1 })),
            ...(Number(token) + 1 < pages() ? { next: String(Number(token) + 1) } : {})
          })),
          "4 seconds"
        ),
      head: never,
      get: () => Stream.fromEffect(never()),
      put: never,
      remove: never
    })
  }

  const walk = (store: Context.Tag.Service<typeof ObjectStore.ObjectStore>) =>
    Effect.gen(function* () {
      let token: string | undefined
      do {
        const page: ObjectStore.ObjectPage = yield* store.listPage({ token })
        token = page.next
      } while (token !== undefined)
    })

  it.effect("tells the first listing every 10 s, a short one and the next ones never", () =>
    Effect.gen(function* () {
      let pages = 2
      const { layer, lines } = recorded()
      const listing = (store: Context.Tag.Service<typeof ObjectStore.ObjectStore>, millis: number) =>
        Effect.gen(function* () {
          const fiber = yield* Effect.fork(walk(store))
          yield* TestClock.adjust(millis)
          yield* Fiber.join(fiber)
        }).pipe(Effect.provide(layer))
      yield* listing(new Progress("short", true).counting(slow(() => pages)), 8000)
      assert.deepStrictEqual(lines, [])
      pages = 8
      const store = new Progress("long", true).counting(slow(() => pages))
      yield* listing(store, 32_000)
      const told = [
        "Info long: listing, 3,000 objects on 3 pages so far",
        "Info long: listing, 6,000 objects on 6 pages so far"
      ]
      assert.deepStrictEqual(lines, told)
      yield* listing(store, 32_000)
      yield* listing(new Progress("with a status line", false).counting(slow(() => pages)), 32_000)
      assert.deepStrictEqual(lines, told)
    })
  )

  it.effect("counts for the status line what takes longer than a second, from the first page to the last", () =>
    Effect.gen(function* () {
      const progress = new Progress("b", false)
      const store = progress.counting(slow(() => 3))
      const fiber = yield* Effect.fork(walk(store))
      const seen: Array<number | undefined> = []
      for (let second = 0; second <= 13; second++) {
        seen.push(progress.longSince(second * 1000))
        yield* TestClock.adjust("1 second")
      }
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(seen, [
        ...[undefined, undefined, undefined, undefined],
        ...[1000, 1000, 1000, 1000, 2000, 2000, 2000, 2000],
        ...[undefined, undefined]
      ])
    })
  )
})

describe("HeldBack", () => {
  const keys = (from: number, to: number): ReadonlyArray<string> =>
    Array.from({ length: to - from }, (_, n) => `k${String(from + n).padStart(2, "0")}`)

  const tagged = (tag: string, keys: ReadonlyArray<string>) => keys.map((key) => `${tag} ${key}`)

  /** A store that is observed once and again, each time by a watcher of its own, as `once` by cron does. */
  const observing = (isOnce: boolean) =>
    Effect.gen(function* () {
      const store = yield* Memory.make({ objects: Object.fromEntries(keys(0, 20).map((key) => [key, "x"])) })
      const checkpoints = yield* Layer.build(Checkpoints.layerMemory)
      const { layer, lines } = recorded()
      const observe = (approve = false) =>
        Effect.gen(function* () {
          const progress = new Progress("my b", false)
          const heldBack = new HeldBack({ name: "my b", pid: 42, isOnce, hasState: true, progress })
          const source = Source.provideContext(
            ObjectSource.make({ pageSize: 5 }),
            Context.make(ObjectStore.ObjectStore, progress.counting(store))
          )
          const options = { checkpoint: "b", schedule: Schedule.stop }
          const watcher = yield* Watcher.make(heldBack.following(source), options)
          if (approve) yield* watcher.approve
          const found: Array<string> = []
          yield* watcher.runForEach(({ _tag, key }) => Effect.sync(() => void found.push(`${_tag} ${key}`)))
          return { found, told: lines.splice(0), held: heldBack.plan?.count ?? 0 }
        }).pipe(Effect.scoped, Effect.provide(checkpoints), Effect.provide(layer))
      const put = (names: ReadonlyArray<string>) => Effect.forEach(names, (name) => store.put(name, "y"))
      const drop = (names: ReadonlyArray<string>) => Effect.forEach(names, store.remove)
      return { observe, put, drop }
    })

  const whole =
    'Warning my b: 8 of 20 objects are missing, such as "k00", "k01", "k02" …; none is removed until 3 listings in a row ' +
    "miss them (1 so far). To remove them now: "

  it.scoped("O3 tells how many of how many are missing, which, until when, and how to let it pass", () =>
    Effect.gen(function* () {
      const { drop, observe, put } = yield* observing(false)
      assert.deepStrictEqual(yield* observe(), { found: tagged("Added", keys(0, 20)), told: [], held: 0 })
      yield* drop(keys(0, 8))
      // what is new was not known before
      yield* put(keys(50, 60))
      assert.deepStrictEqual(yield* observe(), {
        found: tagged("Added", keys(50, 60)),
        told: [`${whole}kill -USR1 42, or start it with --approve 'my b'`],
        held: 8
      })
      const again = yield* observe()
      assert.deepStrictEqual(again.found, [])
      assert.match(again.told[0]!, /^Warning my b: 8 of 30 objects are missing, .* \(2 so far\)/)
      assert.deepStrictEqual(yield* observe(), {
        found: tagged("Removed", keys(0, 8)),
        told: ["Info my b: what was held back is removed"],
        held: 0
      })
      assert.deepStrictEqual(yield* observe(), { found: [], told: [], held: 0 })
    })
  )

  it.scoped("O3 an approval at the start lets pass what the checkpoint holds back, once, and says so", () =>
    Effect.gen(function* () {
      const { drop, observe } = yield* observing(true)
      yield* observe()
      yield* drop(keys(0, 8))
      assert.deepStrictEqual((yield* observe()).told, [`${whole}run it with --approve 'my b'`])
      assert.deepStrictEqual(yield* observe(true), {
        found: tagged("Removed", keys(0, 8)),
        told: ["Info my b: approved: 8 removals"],
        held: 0
      })
      assert.deepStrictEqual(yield* observe(true), {
        found: [],
        told: ["Info my b: nothing is held back, so there is nothing to approve"],
        held: 0
      })
    })
  )

  it.scoped("H10 tells of items of a list over HTTP too, and of a single one", () =>
    Effect.gen(function* () {
      let items = ["a"]
      const { layer, lines } = recorded()
      const list = Source.fromListing({
        name: "l",
        item: Schema.String,
        list: () => Effect.sync(() => ({ items })),
        key: (item) => item
      })
      const setting = { name: "l", pid: 42, isOnce: false, hasState: false, progress: undefined }
      const watcher = yield* Watcher.make(new HeldBack(setting).following(list), { interval: "1 second" })
      yield* Effect.forkScoped(Effect.provide(Stream.runDrain(watcher.changes), layer))
      yield* watcher.awaitSynced
      items = []
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(lines, [
        'Warning l: 1 item is missing, such as "a"; none is removed until 3 listings in a row miss them (1 so far). To remove them now: kill -USR1 42',
        "Warning l: 1 item is missing still (2 of 3 listings in a row); none is removed yet"
      ])
    })
  )

  it.scoped("O3 says when all that was missing is back", () =>
    Effect.gen(function* () {
      const { drop, observe, put } = yield* observing(false)
      yield* observe()
      yield* drop(keys(8, 20))
      assert.strictEqual((yield* observe()).held, 12)
      yield* put(keys(8, 20))
      const { found, held, told } = yield* observe()
      assert.deepStrictEqual([found, held], [tagged("Modified", keys(8, 20)), 0])
      assert.deepStrictEqual(told, ["Info my b: nothing is missing any more, so nothing was removed"])
    })
  )
})
