/**
 * The error of a store, in its usual sentence.
 */
import type { ObjectStoreError } from "./ObjectStore.js"
import * as ObjectStore from "./ObjectStore.js"

export type Operation = ObjectStoreError["operation"]

export const failure = (
  store: string,
  operation: Operation,
  reason: ObjectStore.Reason,
  detail: string,
  key?: string | undefined,
  more?: Pick<ObjectStoreError, "status" | "retryAfter"> | undefined
): ObjectStoreError =>
  new ObjectStore.ObjectStoreError({
    reason,
    store,
    operation,
    ...(key === undefined ? {} : { key }),
    ...more,
    message: `${store}: ${operation} ${detail}`
  })
