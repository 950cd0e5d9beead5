// Reads a run's native stream: eventsource.mjs URL. Prints each event; ends when the source is told to stop (204).
import { EventSource } from 'eventsource'

const [url] = process.argv.slice(2)
const source = new EventSource(url)
const names = [
  'run.queued', 'run.started', 'message.started', 'message.ended', 'part.started', 'part.delta', 'part.ended', 'run.ended',
]
for (const name of names) {
  source.addEventListener(name, (event) => {
    console.log(JSON.stringify({ name: event.type, id: event.lastEventId, data: JSON.parse(event.data) }))
  })
}
// The source's timer for a reconnect does not keep the process alive.
const alive = setInterval(() => {}, 1000)
source.addEventListener('error', (event) => {
  if (source.readyState !== source.CLOSED) return
  console.log(JSON.stringify({ name: 'stopped', code: event.code }))
  clearInterval(alive)
})
