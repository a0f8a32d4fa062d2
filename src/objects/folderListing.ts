/**
 * Pages of a folder of the disk.
 */
import * as Effect from "effect/Effect"
import type { Disk, Stat } from "./disk.js"
import { toStoreError } from "./folderErrors.js"
import * as folderWalk from "./folderWalk.js"
import type { Backend, ObjectStoreError } from "./ObjectStore.js"
import { failure } from "./storeFailure.js"
import type { Tree } from "./treeListing.js"
import * as treeListing from "./treeListing.js"
import type { Level } from "./treeWalk.js"

export interface ListingOptions {
  readonly identity: string
  readonly root: string
  readonly followSymlinks: boolean
}

const idOf = ({ dev, ino }: Stat): string => `${dev}:${ino}`

export const makeListPage = (disk: Disk, { followSymlinks, identity, root }: ListingOptions): Backend["listPage"] => {
  const toError = toStoreError(identity, "listPage", root)

  const missing = failure(
    identity,
    "listPage",
    "MissingContainer",
    "found no folder there; make it, or check the path and whether it is mounted."
  )

  const rootId: Effect.Effect<string, ObjectStoreError> = Effect.matchEffect(disk.stat(root, true), {
    onFailure: (error) => Effect.fail(folderWalk.isVanished(error) ? missing : toError(error)),
    onSuccess: (stat) => (stat.isDirectory() ? Effect.succeed(idOf(stat)) : Effect.fail(missing))
  })

  /** Whether the way to a folder is one that a walk would go: by no link, unless links count. */
  const isReachable = (folder: string): Effect.Effect<boolean, ObjectStoreError> =>
    folder === "" || followSymlinks
      ? Effect.succeed(true)
      : Effect.all([disk.realpath(root), disk.realpath(`${root}/${folder.slice(0, -1)}`)]).pipe(
          Effect.map(([from, to]) => `${to}/` === `${from === "/" ? "" : from}/${folder}`),
          Effect.catchAll((error) =>
            folderWalk.isVanished(error) ? Effect.succeed(false) : Effect.fail(toError(error))
          )
        )

  const readFolder = folderWalk.readFolder(disk, { root, followSymlinks })

  const read: Tree["read"] = (folder) =>
    Effect.flatMap(isReachable(folder), (reachable) =>
      reachable
        ? Effect.mapBoth(readFolder(folder), { onFailure: toError, onSuccess: named })
        : Effect.succeed(undefined)
    )

  /** The same with the errors of the store. */
  const named = (level: folderWalk.DiskLevel | undefined): Level<ObjectStoreError> | undefined =>
    level && {
      names: level.names,
      objects: (names) => Effect.mapError(level.objects(names), toError),
      enter: (name) => Effect.mapBoth(level.enter(name), { onFailure: toError, onSuccess: named })
    }

  return treeListing.makeListPage({ identity, start: rootId, check: rootId, read })
}
