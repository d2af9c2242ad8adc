#pragma once

// Ctrl-C. A command that can stop cleanly calls catch_interrupts() and looks at interrupted() now and then:
// the first SIGINT or SIGTERM only sets it, the second one kills.

namespace supra {

void catch_interrupts();  // from now on, and afresh: forgets an earlier one
bool interrupted();

}  // namespace supra
