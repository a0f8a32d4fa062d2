/**
 * Pages of a folder, and their tokens: each names the walk and the key that the next page begins with.
 *
 * The last few walks are kept open, so that a folder is not read again for each of its pages. A token whose walk is gone, or was
 * begun in another process, goes on by its key alone.
 */
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import type { Disk, Stat } from "./disk.js"
import { fail, toStoreError } from "./folderErrors.js"
import * as folderWalk from "./folderWalk.js"
import type { Backend, ListPageOptions, ObjectPage, ObjectStoreError } from "./ObjectStore.js"

export interface ListingOptions {
  readonly identity: string
  readonly root: string
  readonly followSymlinks: boolean
}

/** An open walk, where it has come to, and the root that it began in. */
interface Kept {
  readonly walk: folderWalk.Walk
  readonly root: string
}

/** Walks that are kept open at once: pollers beside each other, and some that were given up. */
const maxWalks = 4

const maxPage = 10_000

/** A key never holds NUL, a folder's name neither. */
const tokenPattern = /^([0-9a-f]{16}) ([^\0]*)$/s

const idOf = ({ dev, ino }: Stat): string => `${dev}:${ino}`

/** Whether a segment can be the name of a file. */
export const isName = (segment: string): boolean =>
  segment !== "" && segment !== "." && segment !== ".." && !segment.includes("\0") && !isTooLong(segment)

// most file systems hold 255 bytes; a longer name is nobody's
const isTooLong = (segment: string): boolean => segment.length > 85 && Buffer.byteLength(segment) > 255

export const makeListPage = (disk: Disk, { followSymlinks, identity, root }: ListingOptions): Backend["listPage"] => {
  const kept = new Map<string, Kept>()
  const toError = toStoreError(identity, "listPage", root)

  const missing = fail(
    identity,
    "listPage",
    "MissingContainer",
    "found no folder there; make it, or check the path and whether it is mounted."
  )
  const replaced = fail(
    identity,
    "listPage",
    "StaleToken",
    "found another folder in this place than at the start of the listing; list from the start."
  )

  const rootId: Effect.Effect<string, ObjectStoreError> = Effect.matchEffect(disk.stat(root, true), {
    onFailure: (error) => Effect.fail(folderWalk.isVanished(error) ? missing : toError(error)),
    onSuccess: (stat) => (stat.isDirectory() ? Effect.succeed(idOf(stat)) : Effect.fail(missing))
  })

  /** Whether the way to the prefix is one that a walk would go. */
  const isReachable = (prefix: string): Effect.Effect<boolean, ObjectStoreError> => {
    const folders = prefix.split("/").slice(0, -1)
    if (folders.length === 0) return Effect.succeed(true)
    if (!folders.every(isName)) return Effect.succeed(false)
    if (followSymlinks) return Effect.succeed(true)
    return Effect.all([disk.realpath(root), disk.realpath(`${root}/${folders.join("/")}`)]).pipe(
      Effect.map(([from, to]) => to === (from === "/" ? "" : from) + `/${folders.join("/")}`),
      Effect.catchAll((error) => (folderWalk.isVanished(error) ? Effect.succeed(false) : Effect.fail(toError(error))))
    )
  }

  /** The walk of a token, once: it moves on with the page. */
  const take = (token: string | undefined): Kept | undefined => {
    const found = token === undefined ? undefined : kept.get(token)
    if (token !== undefined) kept.delete(token)
    return found
  }

  const keep = (token: string, walk: Kept): void => {
    kept.set(token, walk)
    for (const oldest of kept.keys()) {
      if (kept.size <= maxWalks) break
      kept.delete(oldest)
    }
  }

  return ({ maxKeys = 1000, prefix = "", token }: ListPageOptions = {}) =>
    Effect.gen(function* () {
      const parts = token === undefined ? undefined : tokenPattern.exec(token)
      const walkId = parts?.[1] ?? randomBytes(8).toString("hex")
      const bound = parts?.[2] ?? prefix
      if (parts === null || !bound.startsWith(prefix)) {
        return yield* fail(
          identity,
          "listPage",
          "StaleToken",
          "got a page token that this store did not give; list from the start."
        )
      }
      const id = yield* rootId
      let open = take(token)
      if (open === undefined) {
        if (!(yield* isReachable(prefix))) return { objects: [] }
        const walk = yield* folderWalk.open(disk, { root, followSymlinks }, prefix, bound)
        open = { walk, root: id }
      }
      const { hasVanished, next, objects } = yield* open.walk.page(Math.min(maxKeys, maxPage))
      // with the root itself everything below it vanishes, which says nothing about the files
      if (hasVanished && (yield* rootId) !== open.root) return yield* replaced
      if (next === undefined) return { objects }
      const following = `${walkId} ${next}`
      keep(following, open)
      return { objects, next: following }
    }).pipe(
      Effect.catchTag("DiskError", (error) => Effect.fail(toError(error))),
      Effect.map((page): ObjectPage => page)
    )
}
