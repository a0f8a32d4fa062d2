/**
 * The calls to the file system that a local folder needs, as effects that fail with the code of the system.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import { isUtf8 } from "node:buffer"
import * as NFS from "node:fs"

/** What the system said, such as ENOENT. */
export class DiskError extends Data.TaggedError("DiskError")<{ readonly code: string; readonly path: string }> {}

/** The kind of an entry, as far as the folder itself tells it. */
export type Kind = "file" | "folder" | "link" | "other"

export interface Entry {
  readonly name: string
  readonly kind: Kind
}

export type Stat = Pick<NFS.BigIntStats, "dev" | "ino" | "size" | "mtimeNs" | "isFile" | "isDirectory">

/** What a listing reads. */
export interface Disk {
  /** Fails with EILSEQ where a name is not UTF-8. */
  readonly readdir: (path: string) => Effect.Effect<ReadonlyArray<Entry>, DiskError>
  /** With `follow`, of what a link leads to. */
  readonly stat: (path: string, follow: boolean) => Effect.Effect<Stat, DiskError>
  /** The same of many files, a bounded number at once. */
  readonly statAll: (paths: ReadonlyArray<string>, follow: boolean) => Effect.Effect<ReadonlyArray<Stat | DiskError>>
  readonly realpath: (path: string) => Effect.Effect<string, DiskError>
}

/** More than libuv's four threads can do at once, so that none of them waits for the main thread. */
const concurrency = 64

type Callback<A> = (error: NodeJS.ErrnoException | null, value: A) => void

const toDiskError = (error: NodeJS.ErrnoException, path: string): DiskError =>
  // a path with NUL and the like never reaches the system
  new DiskError({ code: error.code ?? "EINVAL", path })

const thrown = (error: unknown, path: string): DiskError =>
  toDiskError(error instanceof Error ? error : new Error("unknown"), path)

/** A call that answers once, and that nobody can take back. */
export const call = <A>(path: string, start: (done: Callback<A>) => void): Effect.Effect<A, DiskError> =>
  Effect.async((resume) => {
    Effect.runSync(
      Effect.try({
        try: () =>
          start((error, value) =>
            resume(error === null ? Effect.succeed(value) : Effect.fail(toDiskError(error, path)))
          ),
        catch: (error) => resume(Effect.fail(thrown(error, path)))
      }).pipe(Effect.ignore)
    )
  })

const kindOf = (entry: NFS.Dirent<string> | NFS.Dirent<Buffer>): Kind =>
  entry.isFile() ? "file" : entry.isDirectory() ? "folder" : entry.isSymbolicLink() ? "link" : "other"

/** Stands for bytes that are no UTF-8, and is itself a character that a name may hold. */
const replacement = "\ufffd"

const readdir: Disk["readdir"] = (path) =>
  Effect.flatMap(
    call<ReadonlyArray<NFS.Dirent<string>>>(path, (done) => NFS.readdir(path, { withFileTypes: true }, done)),
    (entries) =>
      entries.some(({ name }) => name.includes(replacement))
        ? readdirBytes(path)
        : Effect.succeed(entries.map((entry) => ({ name: entry.name, kind: kindOf(entry) })))
  )

const readdirBytes = (path: string): Effect.Effect<ReadonlyArray<Entry>, DiskError> =>
  Effect.flatMap(
    call<ReadonlyArray<NFS.Dirent<Buffer>>>(path, (done) =>
      NFS.readdir(path, { withFileTypes: true, encoding: "buffer" }, done)
    ),
    (entries) =>
      entries.every(({ name }) => isUtf8(name))
        ? Effect.succeed(entries.map((entry) => ({ name: entry.name.toString("utf8"), kind: kindOf(entry) })))
        : Effect.fail(new DiskError({ code: "EILSEQ", path }))
  )

const startStat = (path: string, follow: boolean, done: Callback<Stat>): void =>
  follow ? NFS.stat(path, { bigint: true }, done) : NFS.lstat(path, { bigint: true }, done)

const statAll: Disk["statAll"] = (paths, follow) =>
  paths.length === 0
    ? Effect.succeed([])
    : Effect.async((resume) => {
        const results = new Array<Stat | DiskError>(paths.length)
        let started = 0
        let done = 0
        let isInterrupted = false
        const next = (): void => {
          const index = started++
          const path = paths[index]!
          startStat(path, follow, (error, stat) => {
            results[index] = error === null ? stat : toDiskError(error, path)
            done++
            if (done === paths.length) resume(Effect.succeed(results))
            else if (started < paths.length && !isInterrupted) next()
          })
        }
        for (let n = Math.min(concurrency, paths.length); n > 0; n--) next()
        return Effect.sync(() => {
          isInterrupted = true
        })
      })

/** The real file system. */
export const disk: Disk = {
  readdir,
  stat: (path, follow) => call(path, (done) => startStat(path, follow, done)),
  statAll,
  realpath: (path) => call(path, (done) => NFS.realpath.native(path, done))
}
