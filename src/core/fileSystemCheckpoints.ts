/**
 * Checkpoint records in a directory: one folder a record, with a head file, which is replaced as a whole, and a file
 * for each large block, which is written once.
 *
 * The head's name carries the fence of the claim that writes it, and the highest one is the record. So the late save of
 * an owner that was given up for dead can replace only its own head, which nobody reads any more.
 *
 * @since 0.1.0
 */
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Head, Place, Plan, Unreadable } from "./checkpointRecord.js"
import {
  damage,
  decodeHead,
  encodeHead,
  inlineBytes,
  isRecordName,
  partsOf,
  plan,
  recordName
} from "./checkpointRecord.js"
import type { DirectoryLock, Files } from "./directoryLock.js"
import { acquire } from "./directoryLock.js"
import type { Failure, OpenRecord, RecordStore, Save } from "./recordStore.js"
import { fencesPerGeneration, makeFences, staleRev } from "./recordStore.js"

/** Opens the store and holds the lock of its directory until the scope closes. */
export const makeFileSystem = (
  directory: string
): Effect.Effect<RecordStore, Failure, FileSystem.FileSystem | Path.Path | Scope.Scope> =>
  Effect.gen(function* () {
    const path = yield* Path.Path
    const files = makeFiles(yield* FileSystem.FileSystem, path, path.resolve(directory))
    yield* makeDirectory(files)
    const lock = yield* acquire(files, highestGeneration(files))
    yield* sweepDirectory(files)
    const nextFence = makeFences(lock.nextGeneration)
    return {
      nextFence,
      open: (checkpoint, fence) => open(files, lock, checkpoint, fence),
      remove: (checkpoint) => remove(files, lock, nextFence, checkpoint),
      list: list(files)
    }
  })

const maxOpenFiles = 8

const makeFiles = (fs: FileSystem.FileSystem, path: Path.Path, directory: string): Files => {
  const synced = (file: string, flag: "r" | "w", bytes: Uint8Array) =>
    Effect.scoped(
      Effect.flatMap(fs.open(file, { flag, mode: 0o600 }), (open) =>
        bytes.length === 0 ? open.sync : Effect.zipRight(open.writeAll(bytes), open.sync)
      )
    )
  // Windows opens no directories and needs no sync of them.
  const isWindows = globalThis.process?.platform === "win32"
  return {
    fs,
    path,
    directory,
    failed: (what) => (error) => ({
      reason: "Unavailable",
      message: `cannot ${what} checkpoint directory "${directory}": ${problemOf(error)}`,
      cause: error
    }),
    writeSynced: (file, bytes) => synced(file, "w", bytes),
    syncDirectory: (folder) => (isWindows ? Effect.void : synced(folder, "r", new Uint8Array()))
  }
}

const problemOf = (error: PlatformError): string => {
  if (error._tag === "SystemError" && error.reason === "PermissionDenied") return "permission denied"
  return error.description ?? (error._tag === "SystemError" ? error.reason : "bad argument")
}

const isNotFound = (error: PlatformError) => error._tag === "SystemError" && error.reason === "NotFound"

const makeDirectory = ({ fs, path, directory, failed, syncDirectory }: Files) =>
  Effect.gen(function* () {
    const found = yield* Effect.option(fs.stat(directory))
    if (Option.isSome(found)) {
      if (found.value.type === "Directory") return
      return yield* Effect.fail<Failure>({
        reason: "Unavailable",
        message: `checkpoint directory "${directory}" is not a directory`
      })
    }
    yield* makeFolders(fs, path, directory).pipe(
      Effect.zipRight(syncDirectory(path.dirname(directory))),
      Effect.mapError(failed("create"))
    )
  })

// step by step: Node's own `recursive` never returns where a folder cannot be created in one that exists, as below /proc
const makeFolders = (
  fs: FileSystem.FileSystem,
  path: Path.Path,
  directory: string
): Effect.Effect<void, PlatformError> => {
  const make = fs.makeDirectory(directory, { mode: 0o700 })
  return make.pipe(
    Effect.catchIf(
      (error) => isNotFound(error) && path.dirname(directory) !== directory,
      () => Effect.zipRight(makeFolders(fs, path, path.dirname(directory)), make)
    ),
    Effect.catchIf(
      (error) => error._tag === "SystemError" && error.reason === "AlreadyExists",
      () => Effect.void
    )
  )
}

/** Removes what a killed owner left in the directory itself. */
const sweepDirectory = ({ fs, path, directory }: Files) =>
  fs
    .readDirectory(directory)
    .pipe(
      Effect.flatMap(
        Effect.forEach((name) =>
          /^(temp|removed)\./.test(name)
            ? Effect.ignore(fs.remove(path.join(directory, name), { recursive: true, force: true }))
            : Effect.void
        )
      ),
      Effect.ignore
    )

/** The heads in a folder, by fence, lowest first; none if there is no such folder. */
const headsIn = ({ fs }: Files, folder: string): Effect.Effect<ReadonlyArray<number>, PlatformError> =>
  fs.readDirectory(folder).pipe(
    Effect.catchIf(isNotFound, () => Effect.succeed([])),
    Effect.map((names) =>
      names.flatMap((name) => (/^head\.\d{1,16}$/.test(name) ? [Number(name.slice(5))] : [])).sort((a, b) => a - b)
    )
  )

const recordFolders = ({ fs, path, directory }: Files) =>
  fs
    .readDirectory(directory)
    .pipe(Effect.map((names) => names.filter(isRecordName).map((name) => path.join(directory, name))))

/** For a directory whose lock files were deleted by hand: a generation that no record has seen yet. */
const highestGeneration = (files: Files) =>
  recordFolders(files).pipe(
    Effect.flatMap(Effect.forEach((folder) => headsIn(files, folder), { concurrency: maxOpenFiles })),
    Effect.map((heads) =>
      heads.reduce((highest, fences) => Math.max(highest, Math.floor((fences.at(-1) ?? 0) / fencesPerGeneration)), 0)
    ),
    Effect.mapError(files.failed("read"))
  )

const unreadable = (folder: string, file: string, { reason, problem }: Unreadable): Failure => ({
  reason,
  message:
    reason === "Corrupt"
      ? `checkpoint file "${file}" is damaged: ${problem}. Restore the folder "${folder}" from a backup, or delete it to start over`
      : `checkpoint file "${file}" is of a newer version: ${problem}. Upgrade, or delete the folder "${folder}" to start over`
})

/** Reads a head and makes sure that it is the one of this checkpoint. */
const readHead = (files: Files, folder: string, file: string, checkpoint: string): Effect.Effect<Head, Failure> =>
  files.fs.readFile(file).pipe(
    Effect.mapError(files.failed("read")),
    Effect.flatMap((bytes) =>
      Either.mapLeft(decodeHead(new TextDecoder().decode(bytes)), (left) => unreadable(folder, file, left))
    ),
    Effect.filterOrFail(
      (head) => head.checkpoint === checkpoint,
      (head) =>
        unreadable(folder, file, { reason: "Corrupt", problem: `it belongs to checkpoint "${head.checkpoint}"` })
    )
  )

const readBlock = (files: Files, folder: string, place: Place): Effect.Effect<Uint8Array, Failure> => {
  if (place._tag === "Inline") return Effect.succeed(inlineBytes(place.base64))
  const file = files.path.join(folder, place.part)
  return files.fs.readFile(file).pipe(
    Effect.mapError((error) =>
      isNotFound(error)
        ? unreadable(folder, file, { reason: "Corrupt", problem: "it is missing" })
        : files.failed("read")(error)
    ),
    Effect.flatMap((bytes) => {
      const problem = damage(place, bytes)
      return problem === undefined
        ? Effect.succeed(bytes)
        : Effect.fail(unreadable(folder, file, { reason: "Corrupt", problem }))
    })
  )
}

/** Removes what no head refers to: parts and heads of saves that were cut off or given up. */
const sweepRecord = ({ fs, path }: Files, folder: string, fence: number, places: ReadonlyMap<string, Place>) =>
  Effect.suspend(() => {
    const kept = partsOf(places)
    return fs
      .readDirectory(folder)
      .pipe(
        Effect.flatMap(
          Effect.forEach((name) =>
            /^(head|part|temp)\./.test(name) && name !== `head.${fence}` && !kept.has(name)
              ? Effect.ignore(fs.remove(path.join(folder, name), { force: true }))
              : Effect.void
          )
        ),
        Effect.ignore
      )
  })

const open = (files: Files, lock: DirectoryLock, checkpoint: string, fence: number) =>
  Effect.gen(function* () {
    const { fs, path, failed } = files
    const folder = path.join(files.directory, recordName(checkpoint))
    yield* lock.verify
    const last = (yield* Effect.mapError(headsIn(files, folder), failed("read"))).at(-1)
    if (last === undefined) return openRecord(files, lock, checkpoint, fence, undefined, Option.none())
    if (last >= fence) return yield* Effect.fail(overtaken)
    const mine = path.join(folder, `head.${fence}`)
    const theirs = path.join(folder, `head.${last}`)
    yield* Effect.mapError(fs.rename(theirs, mine), failed("write to"))
    // A record that cannot be read is left as it was.
    const giveBack = Effect.ignore(fs.rename(mine, theirs))
    return yield* Effect.gen(function* () {
      const head = yield* readHead(files, folder, mine, checkpoint)
      const blocks = yield* Effect.forEach(
        head.places,
        ([id, place]) => Effect.map(readBlock(files, folder, place), (bytes) => [id, bytes] as const),
        { concurrency: maxOpenFiles }
      )
      yield* sweepRecord(files, folder, fence, head.places)
      const stored = { rev: head.rev, head: head.head, blocks: new Map(blocks) }
      return openRecord(files, lock, checkpoint, fence, head, Option.some(stored))
    }).pipe(Effect.tapError(() => giveBack))
  })

const overtaken: Failure = { reason: "Fenced", message: "a younger owner has claimed this checkpoint since" }

const openRecord = (
  files: Files,
  lock: DirectoryLock,
  checkpoint: string,
  fence: number,
  head: Head | undefined,
  stored: OpenRecord["stored"]
): OpenRecord => {
  const folder = files.path.join(files.directory, recordName(checkpoint))
  let current = head
  // After a save whose outcome is unknown, the folder is asked.
  let isKnown = true
  const recall = Effect.gen(function* () {
    const heads = yield* Effect.mapError(headsIn(files, folder), files.failed("read"))
    const last = heads.at(-1)
    if (last !== undefined && last > fence) return yield* Effect.fail(overtaken)
    current =
      last === fence ? yield* readHead(files, folder, files.path.join(folder, `head.${fence}`), checkpoint) : undefined
    yield* sweepRecord(files, folder, fence, current?.places ?? new Map())
    isKnown = true
  })
  const save = (next: Save) =>
    Effect.gen(function* () {
      if (!isKnown) yield* recall
      if (current !== undefined && !(next.rev > current.rev)) return yield* Effect.fail(staleRev(next.rev, current.rev))
      const planned = plan(checkpoint, fence, current?.places ?? new Map(), next)
      const isFirst = current === undefined
      isKnown = false
      yield* replace(files, lock, folder, isFirst, planned).pipe(
        // A new owner sweeps away what we are writing: tell that instead of the missing file.
        Effect.tapError(({ reason }) => (reason === "Unavailable" ? lock.verify : Effect.void))
      )
      current = planned.head
      isKnown = true
    })
  return { stored, save }
}

/** Puts the new head in place of the old one; whatever was written before that and came to nothing is removed. */
const replace = (files: Files, lock: DirectoryLock, folder: string, isFirst: boolean, { head, write, remove }: Plan) =>
  Effect.gen(function* () {
    const { fs, path, failed, writeSynced, syncDirectory } = files
    const temp = path.join(folder, `temp.${head.fence}`)
    const removeAll = (names: ReadonlyArray<string>) =>
      Effect.forEach(names, (name) => Effect.ignore(fs.remove(path.join(folder, name), { force: true })), {
        discard: true
      })
    const prepare = Effect.gen(function* () {
      if (isFirst) {
        yield* fs.makeDirectory(folder, { recursive: true, mode: 0o700 })
        yield* syncDirectory(files.directory)
      }
      yield* Effect.forEach(write, ([part, bytes]) => writeSynced(path.join(folder, part), bytes), {
        concurrency: maxOpenFiles,
        discard: true
      })
      // The names of the parts must be on disk before a head refers to them.
      if (write.length > 0) yield* syncDirectory(folder)
      yield* writeSynced(temp, new TextEncoder().encode(encodeHead(head)))
    })
    yield* prepare.pipe(
      Effect.mapError(failed("write to")),
      Effect.zipRight(lock.verify),
      Effect.tapError(() => removeAll([`temp.${head.fence}`, ...write.map(([part]) => part)]))
    )
    yield* fs
      .rename(temp, path.join(folder, `head.${head.fence}`))
      .pipe(Effect.zipRight(syncDirectory(folder)), Effect.mapError(failed("write to")))
    // A new owner that came before the rename reads the old head, which needs the dropped parts.
    yield* lock.verify
    yield* removeAll(remove)
  })

/** Takes the record away in one step, then deletes it. */
const remove = (
  files: Files,
  lock: DirectoryLock,
  nextFence: Effect.Effect<number, Failure>,
  checkpoint: string
): Effect.Effect<boolean, Failure> =>
  Effect.gen(function* () {
    const { fs, path, directory, failed } = files
    const folder = path.join(directory, recordName(checkpoint))
    yield* lock.verify
    const heads = yield* Effect.mapError(headsIn(files, folder), failed("read"))
    const aside = path.join(directory, `removed.${yield* nextFence}`)
    yield* fs.rename(folder, aside).pipe(
      Effect.zipRight(files.syncDirectory(directory)),
      Effect.catchIf(isNotFound, () => Effect.void),
      Effect.mapError(failed("write to"))
    )
    yield* Effect.ignore(fs.remove(aside, { recursive: true, force: true }))
    return heads.length > 0
  })

const list = (files: Files): Effect.Effect<ReadonlyArray<string>, Failure> =>
  recordFolders(files).pipe(
    Effect.mapError(files.failed("read")),
    Effect.flatMap(Effect.forEach((folder) => idIn(files, folder, 3), { concurrency: maxOpenFiles })),
    Effect.map((ids) => ids.flat().sort())
  )

const idIn = (files: Files, folder: string, attempts: number): Effect.Effect<ReadonlyArray<string>, Failure> =>
  Effect.gen(function* () {
    const last = (yield* Effect.mapError(headsIn(files, folder), files.failed("read"))).at(-1)
    if (last === undefined) return []
    const file = files.path.join(folder, `head.${last}`)
    const bytes = yield* Effect.either(files.fs.readFile(file))
    if (Either.isLeft(bytes)) {
      // A claim has renamed it meanwhile.
      if (isNotFound(bytes.left) && attempts > 0) return yield* idIn(files, folder, attempts - 1)
      return yield* Effect.fail(files.failed("read")(bytes.left))
    }
    const head = decodeHead(new TextDecoder().decode(bytes.right))
    return Either.isRight(head) ? [head.right.checkpoint] : yield* Effect.fail(unreadable(folder, file, head.left))
  })
