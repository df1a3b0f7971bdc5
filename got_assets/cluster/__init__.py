"""Steps that run as jobs of a Ray cluster: `submit` on the step's side, `driver` on the job's."""
