/**
 * Goal: L9 hints for SQLite come for the right files, soon and coalesced, and survive whatever becomes of the watch of the folder.
 * Method: a scripted file system and the clock of the test; exact instants.
 */
import * as PlatformError from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import { assert, describe, it } from "@effect/vitest"
import { FileHints } from "effect-periscope/log"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"

type Told = FileSystem.WatchEvent | "end" | "fail"

const update = (path: string): FileSystem.WatchEvent => FileSystem.WatchEventUpdate({ path })
const remove = (path: string): FileSystem.WatchEvent => FileSystem.WatchEventRemove({ path })

const failure = (method: string) =>
  new PlatformError.SystemError({ module: "FileSystem", method, reason: "NotFound", pathOrDescriptor: "/d" })

/** A file system of one folder that says what it is told to say. */
const scripted = Effect.gen(function* () {
  const watches: Array<string> = []
  const told = yield* Queue.unbounded<Told>()
  let isDefect = false
  const layer = FileSystem.layerNoop({
    realPath: (path) => (path === "/link/app.db" ? Effect.succeed("/d/app.db") : Effect.fail(failure("realPath"))),
    watch: (path) => {
      watches.push(path)
      if (isDefect) return Stream.die("no more watches")
      return Stream.fromQueue(told).pipe(
        Stream.takeWhile((event) => event !== "end"),
        Stream.mapEffect((event) => (typeof event === "string" ? Effect.fail(failure("watch")) : Effect.succeed(event)))
      )
    }
  })
  return {
    watches,
    layer: Layer.merge(layer, Path.layer),
    tell: (event: Told) => Effect.zipRight(Queue.offer(told, event), Effect.yieldNow()),
    breakDown: () => void (isDefect = true)
  }
})

/** The hints of a file, and the instants at which they poked. */
const listening = (path: string) =>
  Effect.gen(function* () {
    const files = yield* scripted
    const clock = yield* Effect.clock
    const pokes: Array<number> = []
    const scope = yield* Scope.make()
    const hints = FileHints.make({ path })("changes", () => void pokes.push(clock.unsafeCurrentTimeMillis()))
    // as a watcher asks for them: where nothing can be interrupted
    yield* Effect.uninterruptible(Effect.provide(Scope.extend(hints, scope), files.layer))
    // what the beginning of a watch pokes for is over
    yield* TestClock.adjust(1000)
    const began = [...pokes]
    pokes.length = 0
    return { ...files, pokes, began, close: Scope.close(scope, Exit.void) }
  })

/** The instants of the pokes for a change that no other follows. */
const settling = (at: number): ReadonlyArray<number> => [0, 2, 5, 10, 20, 50].map((after) => at + after)

describe("FileHints", () => {
  it.effect("pokes when the watch begins and has begun, at a change, and again for 50 ms after it", () =>
    Effect.gen(function* () {
      const { began, pokes, tell, watches } = yield* listening("/d/app.db")
      assert.deepStrictEqual([began, watches], [[...settling(0), ...settling(200)], ["/d"]])
      yield* tell(update("app.db-wal"))
      yield* TestClock.adjust(10_000)
      assert.deepStrictEqual(pokes, settling(1000))
    })
  )

  it.effect("pokes for each change of a burst at once, and again for 50 ms after the last one", () =>
    Effect.gen(function* () {
      const { pokes, tell } = yield* listening("/d/app.db")
      for (let change = 0; change < 3; change++) {
        yield* tell(update("app.db-wal"))
        yield* tell(update("app.db"))
        yield* TestClock.adjust(3)
      }
      yield* tell(update("app.db"))
      yield* TestClock.adjust(20)
      yield* tell(update("app.db"))
      yield* TestClock.adjust(10_000)
      assert.deepStrictEqual(
        [...new Set(pokes)],
        [...[1000, 1002, 1003, 1005, 1006, 1008, 1009, 1011, 1014, 1019], ...settling(1029)]
      )
      assert.isAtMost(pokes.length, 20)
    })
  )

  it.effect("knows its files by their names, whatever the events say of them", () =>
    Effect.gen(function* () {
      const { pokes, tell } = yield* listening("/d/app.db")
      for (const other of ["other.db", "app.db-shm", "app.db2", "xapp.db", "app.db-wal.bak"]) yield* tell(update(other))
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(pokes, [])
      // a created file is told of as one that was removed, and with a path or without one
      for (const [index, own] of [remove("app.db"), update("/d/app.db-wal"), remove("./app.db-journal")].entries()) {
        yield* tell(own)
        yield* TestClock.adjust(1000)
        assert.deepStrictEqual(pokes.splice(0), settling(2000 + 1000 * index))
      }
    })
  )

  it.effect("follows a link to where SQLite keeps the other files", () =>
    Effect.gen(function* () {
      const { watches } = yield* listening("/link/app.db")
      assert.deepStrictEqual(watches, ["/d"])
    })
  )

  it.effect(
    "watches again after 100 ms, doubling to 30 s, and pokes for what it has missed; a change starts over",
    () =>
      Effect.gen(function* () {
        const { pokes, tell, watches } = yield* listening("/d/app.db")
        yield* tell("fail")
        yield* TestClock.adjust(99)
        assert.deepStrictEqual([watches.length, pokes], [1, []])
        yield* TestClock.adjust(1)
        assert.deepStrictEqual([watches.length, pokes], [2, [1100]])
        yield* TestClock.adjust(900)
        yield* tell("end")
        yield* TestClock.adjust(199)
        assert.strictEqual(watches.length, 2)
        yield* TestClock.adjust(1)
        assert.strictEqual(watches.length, 3)
        yield* TestClock.adjust(800)
        // the folder itself has gone
        yield* tell(remove("d"))
        yield* TestClock.adjust(400)
        assert.strictEqual(watches.length, 4)
        yield* tell(update("app.db"))
        yield* tell("end")
        yield* TestClock.adjust(100)
        assert.strictEqual(watches.length, 5)
      })
  )

  it.effect("survives defects, and waits 30 s at most", () =>
    Effect.gen(function* () {
      const { breakDown, tell, watches } = yield* listening("/d/app.db")
      breakDown()
      yield* tell("fail")
      yield* TestClock.adjust("10 minutes")
      const before = watches.length
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(watches.length - before, 20)
    })
  )

  it.effect("W7 ends with its scope, in the middle of a burst too", () =>
    Effect.gen(function* () {
      const { close, pokes, tell, watches } = yield* listening("/d/app.db")
      yield* tell(update("app.db"))
      yield* TestClock.adjust(1)
      const closed = yield* Effect.timeoutOption(Effect.disconnect(close), "1 second").pipe(
        Effect.fork,
        Effect.tap(() => TestClock.adjust("1 second")),
        Effect.flatMap((fiber) => fiber.await)
      )
      assert.isTrue(Exit.isSuccess(closed) && Option.isSome(closed.value))
      yield* tell(update("app.db"))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual([pokes, watches.length], [[1000], 1])
    })
  )
})
