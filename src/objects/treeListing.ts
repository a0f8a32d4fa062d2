/**
 * Pages of a tree of folders, and their tokens: each names the walk, the root it began in, and the key that the next page begins with.
 *
 * The last walks are kept open, so that a folder is not read again for each of its pages. A token whose walk is gone, or was
 * begun in another process, goes on by its key, in the same root only.
 */
import * as Effect from "effect/Effect"
import { randomBytes } from "node:crypto"
import { failure } from "./storeFailure.js"
import type { Backend, ListPageOptions, ObjectPage, ObjectStoreError } from "./ObjectStore.js"
import type { Level } from "./treeWalk.js"
import * as treeWalk from "./treeWalk.js"

/** A tree of folders. */
export interface Tree {
  readonly identity: string
  /** Reads a folder by its key, with a slash at the end or empty; undefined where there is none. */
  readonly read: (folder: string) => Effect.Effect<Level<ObjectStoreError> | undefined, ObjectStoreError>
  /** Which root a walk begins in, where that can be told: another one has another text, which holds no space. */
  readonly start: Effect.Effect<string, ObjectStoreError>
  /** Checks that the root is there, and says which one it is now. */
  readonly check: Effect.Effect<string, ObjectStoreError>
}

/** An open walk, where it has come to, and the root that it began in. */
interface Kept {
  readonly walk: treeWalk.Walk<ObjectStoreError>
  readonly root: string
}

/** Walks that are kept open at once: pollers beside each other, and some that were given up. */
const maxWalks = 64

const maxPage = 10_000

/** The walk, its root, the key. A key never holds NUL, a folder's name neither. */
const tokenPattern = /^([0-9a-f]{16}) ([^ \0]*) ([^\0]*)$/s

/** Whether a segment can be the name of a file. */
export const isName = (segment: string): boolean =>
  segment !== "" && segment !== "." && segment !== ".." && !segment.includes("\0") && !isTooLong(segment)

// most file systems hold 255 bytes; a longer name is nobody's
const isTooLong = (segment: string): boolean => segment.length > 85 && Buffer.byteLength(segment) > 255

export const makeListPage = ({ check, identity, read, start }: Tree): Backend["listPage"] => {
  const kept = new Map<string, Kept>()

  const stale = (detail: string) => failure(identity, "listPage", "StaleToken", `${detail}; list from the start.`)

  const otherRoot = stale("found another folder in this place than at the start of the listing")

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

  /** Opens a walk, or one that began in a root before. */
  const open = (prefix: string, bound: string, begun: string | undefined) =>
    Effect.gen(function* () {
      const root = begun ?? (yield* start)
      const folder = treeWalk.folderOf(prefix)
      const isPlace = folder.split("/").slice(0, -1).every(isName)
      const walk = yield* treeWalk.open(isPlace ? read(folder) : Effect.succeed(undefined), prefix, bound)
      // only now, so that what was read is of the root that is looked at
      if (begun !== undefined && (yield* start) !== begun) return yield* otherRoot
      return { walk, root }
    })

  return ({ maxKeys = 1000, prefix = "", token }: ListPageOptions = {}) =>
    Effect.gen(function* () {
      const parts = token === undefined ? undefined : tokenPattern.exec(token)
      const walkId = parts?.[1] ?? randomBytes(8).toString("hex")
      const bound = parts?.[3] ?? prefix
      if (parts === null || !bound.startsWith(prefix)) {
        return yield* stale("got a page token that this store did not give")
      }
      const current = take(token) ?? (yield* open(prefix, bound, parts?.[2]))
      const { hasVanished, next, objects } = yield* current.walk.page(Math.min(maxKeys, maxPage))
      // with the root itself everything below it vanishes, which says nothing about the files
      if (hasVanished && (yield* check) !== current.root) return yield* otherRoot
      if (next === undefined) return { objects }
      const following = `${walkId} ${current.root} ${next}`
      keep(following, current)
      return { objects, next: following }
    }).pipe(Effect.map((page): ObjectPage => page))
}
