"""What `edge doctor` looks at: a finding a matter, each with the next step where there is one."""
