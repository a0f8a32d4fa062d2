/**
 * What a change of an object holds, for scripts and for people.
 */
import type { ObjectMeta } from "../objects/ObjectStore.js"
import { localDateTime } from "./text.js"
import { showBytes } from "./units.js"

/** The fields of its JSON, as far as the store has them. */
export const fields = ({
  etag,
  key,
  lastModifiedMillis,
  size,
  version
}: ObjectMeta): ReadonlyArray<readonly [name: string, json: string | undefined]> => [
  ["key", JSON.stringify(key)],
  ["size", String(size)],
  ["etag", etag === undefined ? undefined : JSON.stringify(etag)],
  ["lastModified", isTime(lastModifiedMillis) ? JSON.stringify(new Date(lastModifiedMillis).toISOString()) : undefined],
  ["version", version === undefined ? undefined : JSON.stringify(version)]
]

/** A store may tell any number; not all of them are a date. */
const isTime = (millis: number | undefined): millis is number => millis !== undefined && Math.abs(millis) <= 8.64e15

const written = ({ lastModifiedMillis }: ObjectMeta): string =>
  isTime(lastModifiedMillis) ? `, written ${localDateTime(lastModifiedMillis)}` : ""

/** Size and time, on one line. */
export const describe = (meta: ObjectMeta): string => `${showBytes(meta.size)}${written(meta)}`

/** What changed: the size where it did, and the time. */
export const compare = (before: ObjectMeta, after: ObjectMeta): string => {
  const sizes =
    before.size === after.size
      ? `${showBytes(after.size)} as before`
      : showBytes(before.size) === showBytes(after.size)
        ? `${before.size} → ${after.size} B`
        : `${showBytes(before.size)} → ${showBytes(after.size)}`
  return `${sizes}${written(after)}`
}
