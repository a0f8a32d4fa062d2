/**
 * SIGINT and SIGTERM from the first moment on: while the program is still being loaded they end it at once, with 0. SIGUSR1
 * approves what is held back.
 */

/** Two signals within this time are one: a terminal and npm both pass Ctrl-C on. */
const sameSignalMillis = 100

const endAtOnce = (): void => process.exit(0)

let onFirst = endAtOnce
let onSecond = endAtOnce
let onApproval: () => void = () => {}
let firstAt: number | undefined

const onSignal = (): void => {
  const now = Date.now()
  if (firstAt === undefined) {
    firstAt = now
    onFirst()
  } else if (now - firstAt > sameSignalMillis) {
    onSecond()
  }
}

/** Listens for signals; called before anything else is loaded. */
export const listen = (): void => {
  process.on("SIGINT", onSignal)
  process.on("SIGTERM", onSignal)
  // without a listener Node would open its debugger
  process.on("SIGUSR1", () => onApproval())
}

/** Says what the first and the second signal do from now on. */
export const handle = (first: () => void, second: () => void): void => {
  onFirst = first
  onSecond = second
}

/** Says what SIGUSR1 does from now on. */
export const handleApproval = (approve: () => void): void => {
  onApproval = approve
}
