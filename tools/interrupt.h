#pragma once

// Ctrl-C. A command that can stop cleanly calls catch_interrupts() and checks interrupted() from time to time.
// The first SIGINT or SIGTERM only sets it; the second one kills the program.

namespace supra {

void catch_interrupts();  // also forgets an earlier interrupt
bool interrupted();

}  // namespace supra
