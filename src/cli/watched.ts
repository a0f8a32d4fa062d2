/**
 * What a watcher of the command line watches: the source, whatever it reads from, and how far a listing of it is.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import type { ListingError, Source } from "../core/Source.js"
import type { HttpSourceError } from "../http/HttpSource.js"
import type { Failure } from "../log/ChangeLogSource.js"
import type { ObjectStoreError } from "../objects/ObjectStore.js"
import type { Progress } from "./progress.js"
import type { SocketError } from "../socket/ReconnectingSocket.js"
import type { TapError } from "../socket/Tap.js"
import type { CannotOpen } from "./stores.js"
import type { Value } from "./value.js"

export type SourceError =
  HttpSourceError | ListingError | ObjectStoreError | Failure | CannotOpen | SocketError | TapError

export interface Watched {
  readonly source: Source<Value, SourceError, HttpClient.HttpClient>
  /** Of a store. */
  readonly progress: Progress | undefined
}
