/**
 * What an event of a Tap server holds, for scripts and for people.
 */
import type { TapEvent } from "../socket/Tap.js"
import { cut } from "./text.js"

/** An event, as the server has sent it. */
export interface TapItem {
  readonly event: TapEvent
}

/** More of a record is not shown on a line. */
const maxShown = 200

/** The server's own JSON: numbers are whole and small there, so none of them changes. */
export const encode = ({ event }: TapItem): string => JSON.stringify(event)

/** What happened, on one line. */
export const describe = ({ event }: TapItem): string => {
  if (event.type === "identity") {
    const { handle, is_active, status } = event.identity
    return `identity ${handle} ${status}${is_active ? "" : " (not active)"}`
  }
  const { action, live, record } = event.record
  const shown = record === undefined ? "" : ` ${cut(JSON.stringify(record), maxShown)}`
  return `${action}${live ? "" : " (history)"}${shown}`
}
