/**
 * `npm run bench` runs all, `npm run bench -- costPerPoll` one. Compare rows of one table of one run; two runs are two
 * different machines. `soak` takes minutes and runs only when it is asked for.
 */
import { changeLog } from "./changeLog.js"
import { costPerPoll } from "./costPerPoll.js"
import { fleet } from "./fleet.js"
import { folder } from "./folder.js"
import { http304 } from "./http304.js"
import { idleMemory } from "./idleMemory.js"
import { informer } from "./informer.js"
import { s3 } from "./s3.js"
import { snapshot } from "./snapshot.js"
import { socket } from "./socket.js"
import { soak } from "./soak.js"
import { tap } from "./tap.js"
import { workQueue } from "./workQueue.js"

const all: Record<string, () => Promise<void>> = {
  costPerPoll,
  idleMemory,
  http304,
  fleet,
  snapshot,
  folder,
  s3,
  changeLog,
  socket,
  tap,
  workQueue,
  informer,
  soak
}
/** Only when they are asked for. */
const long = new Set(["soak"])

const asked = process.argv.slice(2)
const unknown = asked.filter((name) => !(name in all))
if (unknown.length > 0) {
  console.error(`No benchmark "${unknown.join(", ")}"; there are: ${Object.keys(all).join(", ")}.`)
  process.exit(2)
}
for (const [name, run] of Object.entries(all))
  if (asked.length === 0 ? !long.has(name) : asked.includes(name)) await run()
