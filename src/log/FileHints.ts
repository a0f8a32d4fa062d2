/**
 * Hints for a log in a SQLite file: says that there may be something new when any process has written to it.
 *
 * A hint changes when a log is read, never what is read. One that does not come, as nothing is told of files on a network for
 * example, leaves the watch to its interval; nothing that goes wrong here ever fails it.
 *
 * @since 0.1.0
 */
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { Hints } from "./ChangeLog.js"

/**
 * Where the database is.
 *
 * - `path`: its file, which need not be there yet.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly path: string
}

/**
 * A commit can be seen a moment after it was written: when it is on the disk, and the index of the WAL says so. That takes from
 * less than a millisecond to the time of a slow sync.
 */
const settlingMillis = [2, 3, 5, 10, 30]

/** By then a watch of the folder has begun. */
const begunMillis = 200

const shortestWait = 100
const longestWait = 30_000

/** Pokes for what is heard, and again when it has become quiet. `bell` holds at most one ring. */
const following = (bell: Queue.Queue<void>, poke: () => void): Effect.Effect<never> => {
  const isQuietFor = (millis: number): Effect.Effect<boolean> =>
    Effect.map(Effect.timeoutOption(Queue.take(bell), millis), Option.isNone)
  const round = Effect.gen(function* () {
    yield* Queue.take(bell)
    poke()
    for (let step = 0; step < settlingMillis.length;) {
      const isQuiet = yield* isQuietFor(settlingMillis[step]!)
      poke()
      step = isQuiet ? step + 1 : 0
    }
  })
  return Effect.forever(round)
}

/**
 * Makes the hints of a SQLite database: pokes when its file or the files beside it (`-wal`, `-journal`) change, so that what another
 * process has committed is seen within milliseconds, whatever the interval.
 *
 * **Details** The folder is watched, so the files may come, go and be replaced. A change pokes at once, and 2, 5, 10, 20 and 50 ms
 * after the last one, as a commit can be seen a moment after it was written; so does the beginning of a watch, and once more after 200 ms. A watch of the folder that fails or ends is begun
 * again after 100 ms, doubling to 30 s.
 *
 * **Gotchas** Network file systems and some containers tell nothing of what others write: then the interval counts.
 *
 * **Example**
 * ```ts
 * import { NodeContext } from "@effect/platform-node"
 * import { SqliteClient } from "@effect/sql-sqlite-node"
 * import { Layer } from "effect"
 * import { FileHints } from "effect-periscope/log"
 * import * as SqlChangeLog from "effect-periscope/log/SqlChangeLog"
 *
 * const LogLive = SqlChangeLog.layer({ table: "changes", hints: FileHints.make({ path: "app.db" }) }).pipe(
 *   Layer.provide(SqliteClient.layer({ filename: "app.db" })),
 *   Layer.provide(NodeContext.layer)
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make =
  (options: Options): Hints<FileSystem.FileSystem | Path.Path> =>
  (_, poke) =>
    Effect.gen(function* () {
      const files = yield* FileSystem.FileSystem
      const paths = yield* Path.Path
      const bell = yield* Queue.sliding<void>(1)
      const ring = Queue.offer(bell, undefined)
      const given = paths.resolve(options.path)
      let failures = 0

      const watchFolder = Effect.gen(function* () {
        // SQLite keeps its other files beside the one that a link leads to
        const file = yield* Effect.orElseSucceed(files.realPath(given), () => given)
        const folder = paths.dirname(file)
        const names = ["", "-wal", "-journal"].map((ending) => paths.basename(file) + ending)
        // what was written while nobody watched, and before this watch has begun, which nothing tells
        yield* ring
        yield* Effect.forkScoped(Effect.delay(ring, begunMillis))
        yield* files.watch(folder).pipe(
          Stream.map((event) => ({ name: paths.basename(event.path), isGone: event._tag === "Remove" })),
          // a folder that is gone tells nothing more, also when there is another one in its place
          Stream.takeWhile(({ isGone, name }) => !(isGone && name === paths.basename(folder))),
          Stream.filter(({ name }) => names.includes(name)),
          Stream.runForEach(() => {
            failures = 0
            return ring
          })
        )
      }).pipe(Effect.scoped)
      const watchAgain = Effect.gen(function* () {
        yield* Effect.catchAllCause(watchFolder, (cause) =>
          Effect.logDebug(`FileHints: the folder of ${given} cannot be watched for now`, cause)
        )
        yield* Effect.sleep(Math.min(shortestWait * 2 ** failures, longestWait))
        failures++
      })
      // a watcher asks for hints where nothing can be interrupted, and a fiber inherits that
      yield* Effect.forkScoped(Effect.interruptible(Effect.forever(watchAgain)))
      yield* Effect.forkScoped(Effect.interruptible(following(bell, poke)))
    })
