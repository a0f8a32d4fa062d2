/**
 * The files of a folder as objects: look at, read, write and remove one.
 *
 * A key leads to a file below the root, by no link unless links count; a write goes through none at all.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { randomBytes } from "node:crypto"
import * as NFS from "node:fs"
import { sep } from "node:path"
import type { Stat } from "./disk.js"
import { call, disk, DiskError } from "./disk.js"
import { toStoreError } from "./folderErrors.js"
import type { ListingOptions } from "./folderListing.js"
import { isTemporary, isVanished, metaOf } from "./folderWalk.js"
import type { Backend, ObjectStoreError } from "./ObjectStore.js"
import type { Operation } from "./storeFailure.js"
import { failure } from "./storeFailure.js"
import { isName } from "./treeListing.js"

export interface FilesOptions extends ListingOptions {
  readonly sync: boolean
}

/** Where a key is kept. */
interface Place {
  /** The folder, by its real path. */
  readonly folder: string
  /** The folders between the root and it. */
  readonly segments: ReadonlyArray<string>
  readonly path: string
}

type Failure = DiskError | ObjectStoreError

const chunkBytes = 64 * 1024

/** A call on an open file: nobody may close it meanwhile. */
const whole = <A>(path: string, start: Parameters<typeof call<A>>[1]): Effect.Effect<A, DiskError> =>
  Effect.uninterruptible(call(path, start))

const done =
  (callback: (error: NodeJS.ErrnoException | null, value: void) => void) => (error: NodeJS.ErrnoException | null) =>
    callback(error, undefined)

const open = (path: string, flags: number | string): Effect.Effect<number, DiskError> =>
  whole(path, (callback) => NFS.open(path, flags, 0o666, callback))

const close = (fd: number): Effect.Effect<void> =>
  Effect.ignore(whole<void>("", (callback) => NFS.close(fd, done(callback))))

/** The next bytes, or `None` at the end. */
const read = (path: string, fd: number): Effect.Effect<Uint8Array, Option.Option<DiskError>> =>
  Effect.suspend(() => {
    const buffer = new Uint8Array(chunkBytes)
    return Effect.flatMap(
      Effect.mapError(
        whole<number>(path, (callback) => NFS.read(fd, buffer, 0, chunkBytes, null, callback)),
        Option.some
      ),
      (count) => (count === 0 ? Effect.fail(Option.none()) : Effect.succeed(buffer.subarray(0, count)))
    )
  })

const writeAll = (path: string, fd: number, bytes: Uint8Array): Effect.Effect<void, DiskError> =>
  Effect.iterate(0, {
    while: (written) => written < bytes.length,
    body: (written) =>
      Effect.map(
        whole<number>(path, (callback) => NFS.write(fd, bytes, written, bytes.length - written, null, callback)),
        (count) => written + count
      )
  })

const syncFolder = (path: string): Effect.Effect<void, DiskError> =>
  Effect.acquireUseRelease(
    open(path, "r"),
    (fd) => whole<void>(path, (callback) => NFS.fsync(fd, done(callback))),
    close
  )

// where a backslash parts folders, a key with one would be another path
const isForeign = (key: string): boolean => sep !== "/" && /[\\:]/.test(key)

export const makeFiles = ({
  followSymlinks,
  identity,
  root,
  sync
}: FilesOptions): Pick<Backend, "head" | "get" | "put" | "remove"> => {
  const mapError = (operation: Operation, key: string) => {
    const toError = toStoreError(identity, operation, root, key)
    return (error: Failure): ObjectStoreError => (error._tag === "DiskError" ? toError(error) : error)
  }

  const refuse = (operation: Operation, key: string, detail: string) =>
    Effect.fail(failure(identity, operation, "InvalidRequest", detail, key))

  /** Checks the key and that the root is there; what is below it may be missing. */
  const locate = (operation: Operation, key: string): Effect.Effect<Place, Failure> =>
    Effect.gen(function* () {
      const segments = key.split("/")
      if (!segments.every(isName) || segments.some(isTemporary) || isForeign(key)) {
        return yield* refuse(operation, key, "was given a key that is no path: a segment is empty, a dot or too long.")
      }
      const missing = failure(identity, operation, "MissingContainer", "found no folder there; make or mount it.", key)
      const stat = yield* Effect.catchIf(disk.stat(root, true), isVanished, () => Effect.fail(missing))
      if (!stat.isDirectory()) return yield* missing
      const real = yield* disk.realpath(root)
      const folder = [real === "/" ? "" : real, ...segments.slice(0, -1)].join("/")
      return { folder, segments: segments.slice(0, -1), path: `${folder}/${segments[segments.length - 1]}` }
    })

  /** The file of a key, if it is an object. */
  const find = (operation: Operation, key: string): Effect.Effect<readonly [Place, Option.Option<Stat>], Failure> =>
    Effect.gen(function* () {
      const place = yield* locate(operation, key)
      const stat = Effect.gen(function* () {
        if (!followSymlinks && place.segments.length > 0 && (yield* disk.realpath(place.folder)) !== place.folder) {
          return Option.none()
        }
        return Option.filter(Option.some(yield* disk.stat(place.path, followSymlinks)), (found) => found.isFile())
      })
      return [place, yield* Effect.catchIf(stat, isVanished, () => Effect.succeedNone)] as const
    })

  const found = (operation: "head" | "get", key: string) =>
    Effect.flatMap(find(operation, key), ([place, stat]) =>
      Option.isSome(stat)
        ? Effect.succeed([place, stat.value] as const)
        : Effect.fail(failure(identity, operation, "NotFound", `found no object ${JSON.stringify(key)}.`, key))
    )

  /** Makes the folder of a key; fails where a link is on the way. */
  const makeFolders = (
    operation: Operation,
    key: string,
    { folder, segments }: Place
  ): Effect.Effect<void, Failure> => {
    const throughLink = refuse(operation, key, "was given a key that leads through a link; nothing is written there.")
    return Effect.matchEffect(disk.realpath(folder), {
      onSuccess: (real) => (real === folder ? Effect.void : throughLink),
      onFailure: (error) => {
        if (error.code !== "ENOENT") return Effect.fail(error)
        const made = segments.map((_, n) =>
          folder
            .split("/")
            .slice(0, n + 1 - segments.length || undefined)
            .join("/")
        )
        return Effect.forEach(
          made,
          (path) =>
            Effect.catchIf(
              call<void>(path, (callback) => NFS.mkdir(path, done(callback))),
              ({ code }: DiskError) => code === "EEXIST",
              () =>
                Effect.flatMap(disk.stat(path, false), (stat): Effect.Effect<void, Failure> => {
                  if (stat.isDirectory()) return Effect.void
                  return stat.isFile() ? Effect.fail(new DiskError({ code: "ENOTDIR", path })) : throughLink
                })
            ),
          { discard: true }
        )
      }
    })
  }

  const put: Backend["put"] = (key, content) =>
    Effect.gen(function* () {
      const place = yield* locate("put", key)
      const { folder, path } = place
      yield* makeFolders("put", key, place)
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content
      const beside = `${folder}/.periscope-${randomBytes(8).toString("hex")}.tmp`
      return yield* Effect.acquireUseRelease(
        open(beside, "wx"),
        (fd) =>
          Effect.gen(function* () {
            yield* writeAll(beside, fd, bytes)
            if (sync) yield* whole<void>(beside, (callback) => NFS.fsync(fd, done(callback)))
            yield* whole<void>(path, (callback) => NFS.rename(beside, path, done(callback)))
            if (sync) yield* syncFolder(folder)
            const stat = yield* whole<Stat>(path, (callback) => NFS.fstat(fd, { bigint: true }, callback))
            return metaOf(key, stat)
          }),
        (fd, exit) =>
          Effect.zipRight(
            close(fd),
            Exit.isSuccess(exit)
              ? Effect.void
              : Effect.ignore(whole<void>(beside, (callback) => NFS.unlink(beside, done(callback))))
          )
      )
    }).pipe(Effect.mapError(mapError("put", key)))

  const remove: Backend["remove"] = (key) =>
    Effect.gen(function* () {
      const [{ folder, path, segments }, stat] = yield* find("remove", key)
      if (Option.isNone(stat)) return
      if (segments.length > 0 && (yield* disk.realpath(folder)) !== folder) {
        return yield* refuse("remove", key, "was given a key that leads through a link; nothing is removed there.")
      }
      yield* whole<void>(path, (callback) => NFS.unlink(path, done(callback)))
    }).pipe(
      Effect.catchIf(
        (error) => error._tag === "DiskError" && isVanished(error),
        () => Effect.void
      ),
      Effect.mapError(mapError("remove", key))
    )

  const { O_NOFOLLOW = 0, O_NONBLOCK = 0, O_RDONLY } = NFS.constants
  // a pipe that took the place of the file would block for ever
  const readOnly = O_RDONLY | O_NONBLOCK | (followSymlinks ? 0 : O_NOFOLLOW)

  const get: Backend["get"] = (key) =>
    Stream.unwrapScoped(
      Effect.map(
        Effect.flatMap(found("get", key), ([{ path }]) =>
          Effect.map(Effect.acquireRelease(open(path, readOnly), close), (fd) => ({ fd, path }))
        ),
        ({ fd, path }): Stream.Stream<Uint8Array, Failure> => Stream.repeatEffectOption(read(path, fd))
      )
    ).pipe(Stream.mapError(mapError("get", key)))

  return {
    head: (key) =>
      Effect.mapError(
        Effect.map(found("head", key), ([, stat]) => metaOf(key, stat)),
        mapError("head", key)
      ),
    get,
    put,
    remove
  }
}
