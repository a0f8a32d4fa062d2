/**
 * One process at a time in a directory, and a number that grows with every owner.
 *
 * The owner's file is `lock.<generation>`, which becomes `unlocked.<generation>` when it goes. An owner that died is
 * followed by whoever creates the next number, which the file system lets only one do: a stale lock is never removed to
 * make room, so there is no instant at which two can have it. Because the earlier file is deleted before the new owner
 * begins, an owner that was given up for dead (a frozen machine) sees that its own file is gone.
 *
 * @since 0.1.0
 */
import type { PlatformError } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { globalValue } from "effect/GlobalValue"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { hostname } from "node:os"
import type { Failure } from "./recordStore.js"

/** The files of the directory, with every failure told in one sentence. */
export interface Files {
  readonly fs: FileSystem.FileSystem
  readonly path: Path.Path
  readonly directory: string
  readonly failed: (what: string) => (error: PlatformError) => Failure
  readonly writeSynced: (file: string, bytes: Uint8Array) => Effect.Effect<void, PlatformError>
  readonly syncDirectory: (directory: string) => Effect.Effect<void, PlatformError>
}

/** The lock, held until its scope closes. */
export interface DirectoryLock {
  /** Gives the generation that is held; each further call takes the next one. */
  readonly nextGeneration: Effect.Effect<number, Failure>
  /** Fails with `Fenced` as soon as another owner has the directory. */
  readonly verify: Effect.Effect<void, Failure>
}

/** Who holds a lock. `boot` and `started` tell a process from another one that got its number; "" where unknown. */
interface Owner {
  readonly pid: number
  readonly host: string
  readonly boot: string
  readonly started: string
  readonly token: string
}

const process = globalThis.process as NodeJS.Process | undefined

// By the process, not by this copy of the module. A lock with our own pid that is not in here is a dead one's: the first
// process of a container gets the same number at every start.
const held = globalValue(Symbol.for("effect-periscope/directoryLock/held"), () => new Set<string>())

const lockName = /^(lock|unlocked)\.(\d{1,10})$/

/** Takes the lock. `floor` is asked for a generation that all others have to exceed when the directory names none. */
export const acquire = (
  files: Files,
  floor: Effect.Effect<number, Failure>
): Effect.Effect<DirectoryLock, Failure, Scope.Scope> =>
  Effect.gen(function* () {
    const owner = yield* identify(files.fs)
    held.add(owner.token)
    yield* Effect.addFinalizer(() => Effect.sync(() => held.delete(owner.token)))
    let generation: number = 0
    yield* Effect.acquireRelease(
      Effect.tap(takeNext(files, owner, floor, 0), (taken) => (generation = taken)),
      () => release(files, generation)
    )
    let isFresh = true
    const nextGeneration = Effect.suspend(() => {
      if (isFresh) {
        isFresh = false
        return Effect.succeed(generation)
      }
      const next = generation + 1
      return take(files, owner, next).pipe(
        Effect.filterOrFail(
          (taken) => taken,
          () => takenOver(files, generation)
        ),
        Effect.tap(() => (generation = next)),
        Effect.zipRight(clear(files, next)),
        Effect.as(next)
      )
    })
    const verify: Effect.Effect<void, Failure> = Effect.suspend(() => {
      const asked = generation
      return files.fs.exists(lockFile(files, asked)).pipe(
        Effect.mapError(files.failed("read")),
        Effect.flatMap((isHeld) =>
          isHeld ? Effect.void : asked === generation ? Effect.fail(takenOver(files, asked)) : verify
        )
      )
    })
    return { nextGeneration, verify }
  })

const lockFile = ({ path, directory }: Files, generation: number) => path.join(directory, `lock.${generation}`)

const takenOver = (files: Files, generation: number): Failure => ({
  reason: "Fenced",
  message: `this process has lost checkpoint directory "${files.directory}" to another one: its lock.${generation} is gone`
})

const attempts = 100

/** Finds the highest generation; takes the next one if that one is free or its owner is dead. */
const takeNext = (
  files: Files,
  owner: Owner,
  floor: Effect.Effect<number, Failure>,
  attempt: number
): Effect.Effect<number, Failure> =>
  Effect.gen(function* () {
    const found = yield* generations(files)
    const last = found.at(-1)
    if (last?.isLocked === true) {
      const verdict = yield* judge(files, owner, last.generation)
      if (verdict !== "dead") return yield* Effect.fail(verdict)
    }
    const generation = (last === undefined ? yield* floor : last.generation) + 1
    if (!(yield* take(files, owner, generation))) {
      // Another starter was quicker: it lives, so the next round ends with Locked, unless it is gone again.
      if (attempt < attempts) return yield* takeNext(files, owner, floor, attempt + 1)
      return yield* Effect.fail(contended(files))
    }
    yield* clear(files, generation).pipe(Effect.tapError(() => release(files, generation)))
    return generation
  })

const contended = ({ directory }: Files): Failure => ({
  reason: "Locked",
  message: `checkpoint directory "${directory}" is wanted by too many processes at once: start one of them`
})

/** The generations that the directory names, lowest first; a lock after its own release. */
const generations = ({ fs, directory, failed }: Files) =>
  fs.readDirectory(directory).pipe(
    Effect.mapError(failed("read")),
    Effect.map((names) =>
      names
        .flatMap((name) => {
          const match = lockName.exec(name)
          return match === null ? [] : [{ name, generation: Number(match[2]), isLocked: match[1] === "lock" }]
        })
        .sort((a, b) => a.generation - b.generation || Number(a.isLocked) - Number(b.isLocked))
    )
  )

/** Creates `lock.<generation>` with its contents in one step; false if somebody has or had this number. */
const take = (files: Files, owner: Owner, generation: number): Effect.Effect<boolean, Failure> => {
  const { fs, path, directory, failed } = files
  const file = lockFile(files, generation)
  const bytes = new TextEncoder().encode(JSON.stringify(owner))
  const temp = path.join(directory, `temp.${owner.token}`)
  // A link shows the file only with its contents: a kill between the two steps leaves no lock that names nobody. A
  // file system without links gets the plain exclusive creation.
  const create = files.writeSynced(temp, bytes).pipe(
    Effect.zipRight(fs.link(temp, file)),
    Effect.catchIf(
      (error) =>
        error._tag === "SystemError" && error.method === "link" && !/EEXIST|ENOENT/.test(`${error.description}`),
      () => fs.writeFile(file, bytes, { flag: "wx", mode: 0o600 })
    ),
    Effect.as(true),
    // Not found: an owner has swept the aside file away, as it does with those of the dead.
    Effect.catchIf(
      (error) => error._tag === "SystemError" && (error.reason === "AlreadyExists" || error.reason === "NotFound"),
      () => Effect.succeed(false)
    ),
    Effect.ensuring(Effect.ignore(fs.remove(temp, { force: true }))),
    Effect.mapError(failed("write to"))
  )
  return Effect.gen(function* () {
    if (!(yield* create)) return false
    // We may have been slow, and the number used up and cleared away before we came.
    const isLate = (yield* generations(files)).some(
      (other) => other.generation > generation || (other.generation === generation && !other.isLocked)
    )
    if (isLate) yield* Effect.mapError(fs.remove(file, { force: true }), failed("write to"))
    return !isLate
  })
}

/** Deletes the earlier generations (for one that still lives, that is the sign to stop) and makes this one durable. */
const clear = (files: Files, generation: number): Effect.Effect<void, Failure> =>
  Effect.gen(function* () {
    const { fs, path, directory } = files
    for (const other of yield* generations(files)) {
      if (other.generation < generation)
        yield* Effect.asVoid(fs.remove(path.join(directory, other.name), { force: true }))
    }
    yield* files.syncDirectory(directory)
  }).pipe(Effect.mapError((error) => ("_tag" in error ? files.failed("write to")(error) : error)))

const release = (files: Files, generation: number): Effect.Effect<void> =>
  Effect.ignore(
    files.fs.rename(lockFile(files, generation), files.path.join(files.directory, `unlocked.${generation}`))
  )

/** Says whether the owner of a lock is dead, or else why the directory cannot be had. */
const judge = (files: Files, self: Owner, generation: number): Effect.Effect<"dead" | Failure, Failure> =>
  Effect.gen(function* () {
    const { fs, directory } = files
    const file = lockFile(files, generation)
    const locked = (message: string): Failure => ({
      reason: "Locked",
      message: `checkpoint directory "${directory}" ${message}`
    })
    const text = yield* Effect.either(fs.readFileString(file))
    if (Either.isLeft(text)) {
      // Released or followed meanwhile: the number is used up either way.
      if (text.left._tag === "SystemError" && text.left.reason === "NotFound") return "dead"
      return yield* Effect.fail(files.failed("read")(text.left))
    }
    const owner = Either.getOrUndefined(Either.try(() => JSON.parse(text.right) as Owner | null))
    if (typeof owner?.pid !== "number") {
      return locked(`has a lock that cannot be read: if no other process uses the directory, delete "${file}"`)
    }
    if (owner.host !== self.host) {
      return locked(
        `is locked by process ${owner.pid} on host "${owner.host}", which cannot be seen from here: if it is gone, delete "${file}"`
      )
    }
    if (owner.boot !== self.boot && owner.boot !== "" && self.boot !== "") return "dead"
    if (owner.pid === self.pid) {
      if (!held.has(owner.token)) return "dead"
      return locked(`is open in this process already: build its layer once and share it`)
    }
    if (!(yield* isAlive(fs, owner))) return "dead"
    return locked(`is used by process ${owner.pid}: stop that one, or give this one a directory of its own`)
  })

const identify = (fs: FileSystem.FileSystem): Effect.Effect<Owner> =>
  Effect.gen(function* () {
    const pid = process?.pid ?? 0
    const boot = yield* Effect.orElseSucceed(fs.readFileString("/proc/sys/kernel/random/boot_id"), () => "")
    const { started } = yield* inspect(fs, pid)
    // Not from the Random service: two processes with the same seed must not become one.
    return { pid, host: hostname(), boot: boot.trim(), started, token: randomUUID() }
  })

const isAlive = (fs: FileSystem.FileSystem, { pid, started }: Owner): Effect.Effect<boolean> =>
  Effect.gen(function* () {
    const signal = Either.try({ try: () => process?.kill(pid, 0), catch: (error) => error as NodeJS.ErrnoException })
    if (Either.isLeft(signal)) return signal.left.code !== "ESRCH"
    const found = yield* inspect(fs, pid)
    if (found.isZombie) return false
    return found.started === started || found.started === "" || started === ""
  })

/** When a process was started, by Linux's count; "" elsewhere. A zombie was killed and is not yet buried. */
const inspect = (fs: FileSystem.FileSystem, pid: number) =>
  fs.readFileString(`/proc/${pid}/stat`).pipe(
    Effect.orElseSucceed(() => ""),
    Effect.map((stat) => {
      // The name in parentheses may hold blanks and parentheses itself.
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
      return { started: fields[19] ?? "", isZombie: fields[0] === "Z" || fields[0] === "X" }
    })
  )
