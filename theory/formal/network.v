(* Networks on directed acyclic graphs: forward, backward, gradient; D1 of the ledger, section 2 of the paper. *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Definitions.
Variables (R : ringType) (V : Type).

(* a foldr, so that vm_compute reduces it; bigop is locked *)
Definition sumv (s : seq V) (P : pred V) (F : V -> R) : R :=
  foldr (fun u acc => if P u then F u + acc else acc) 0 s.

Record net := Net {
  units : seq V;            (* every unit once *)
  edge  : rel V;            (* edge u v: there is an edge u -> v *)
  steps : nat;              (* more than the longest path has edges *)
  inp   : pred V;           (* inputs *)
  out   : pred V;           (* outputs *)
  act   : V -> R -> R;      (* f_v *)
  slp   : V -> R -> R       (* f'_v, any function *)
}.
Definition weights := V -> V -> R.
(* one sample: the input, and d l / d h at the outputs *)
Record sample := Sample { xval : V -> R; seed : V -> R }.

Variables (N : net) (w : weights).

Fixpoint fwd (k : nat) (x : V -> R) (v : V) : R :=
  if k is k'.+1 then
    if inp N v then x v
    else act N v (sumv (units N) (edge N ^~ v) (fun u => w u v * fwd k' x u))
  else 0.

Definition forward x v := fwd (steps N).+1 x v.                  (* h *)
Definition preact x v :=                                         (* z *)
  sumv (units N) (edge N ^~ v) (fun u => w u v * forward x u).
Definition slope x v := if inp N v then 0 else slp N v (preact x v).

Fixpoint bwd (k : nat) (s : sample) (u : V) : R :=
  if k is k'.+1 then
    (if out N u then seed s u else 0) +
    sumv (units N) (edge N u) (fun v => w u v * (slope (xval s) v * bwd k' s v))
  else 0.
Definition backward s u := bwd (steps N).+1 s u.                 (* delta *)

Definition grad (b : seq sample) (u v : V) : R :=
  foldr (fun s acc =>
    forward (xval s) u * (slope (xval s) v * backward s v) + acc) 0 b.
End Definitions.

Section Wellformed.
Variables (R : ringType) (V : eqType) (N : net R V).
(* the graph is acyclic: some rank below [steps] rises along every edge *)
Definition acyclic_by (rk : V -> nat) :=
  (forall u v, edge N u v -> (rk u < rk v)%N) /\
  (forall u, u \in units N -> (rk u < steps N)%N).
End Wellformed.

Lemma sumvE (R : ringType) (V : Type) (s : seq V) (P : pred V) (F : V -> R) :
  sumv s P F = \sum_(u <- s | P u) F u.
Proof. by elim: s => [|a s IH] /=; rewrite ?big_nil // big_cons IH. Qed.

Lemma gradE (R : ringType) (V : Type) (N : net R V) w b u v :
  grad N w b u v = \sum_(s <- b) forward N w (xval s) u *
                     (slope N w (xval s) v * backward N w s v).
Proof. by elim: b => [|s b IH] /=; rewrite ?big_nil // big_cons IH. Qed.

(* ------------------------------------------------------------------ *)
(* 1. The recursions of JL25, section 2, and that they have one solution *)
(* ------------------------------------------------------------------ *)
Section Recursion.
Variables (R : ringType) (V : eqType) (N : net R V) (rk : V -> nat).
Hypothesis dag : acyclic_by N rk.
Notation us := (units N).

Lemma fwd_stable w x k v : (rk v < k)%N -> fwd N w k.+1 x v = fwd N w k x v.
Proof.
elim: k v => // k IH v lt_vk; rewrite [LHS]/= [RHS]/=; case: (inp N v) => //.
congr (act N v _); rewrite !sumvE; apply: eq_bigr => u uv; congr (_ * _).
by apply: IH; apply: leq_trans (dag.1 _ _ uv) _.
Qed.

Lemma forwardE w x v :
  forward N w x v = if inp N v then x v else act N v (preact N w x v).
Proof.
rewrite {1}/forward [LHS]/=; case: (inp N v) => //; congr (act N v _).
rewrite /preact !sumvE big_seq_cond [RHS]big_seq_cond; apply: eq_bigr => u /andP[us_u uv].
by congr (_ * _); rewrite /forward -fwd_stable // dag.2.
Qed.

Lemma forward_unique w x h :
  (forall v, h v = if inp N v then x v
                   else act N v (\sum_(u <- us | edge N u v) w u v * h u)) ->
  h =1 forward N w x.
Proof.
move=> hE v; have [d] := ubnP (rk v); elim: d v => // d IH v lt_vd.
rewrite hE forwardE; case: (inp N v) => //; congr (act N v _).
rewrite /preact sumvE; apply: eq_bigr => u uv; congr (_ * _); apply: IH.
by rewrite (leq_trans (dag.1 _ _ uv)).
Qed.

Lemma bwd_stable w s k u : (steps N - rk u < k)%N -> bwd N w k.+1 s u = bwd N w k s u.
Proof.
elim: k u => // k IH u lt_uk; rewrite [LHS]/= [RHS]/=; congr (_ + _); rewrite !sumvE.
rewrite big_seq_cond [RHS]big_seq_cond; apply: eq_bigr => v /andP[us_v uv].
congr (_ * (_ * _)); apply: IH; apply: leq_trans (_ : (steps N - rk u <= k)%N) => //.
by rewrite ltn_sub2l // ?dag.1 // (ltn_trans (dag.1 _ _ uv)) ?dag.2.
Qed.

Lemma backwardE w s u :
  backward N w s u = (if out N u then seed s u else 0) +
   \sum_(v <- us | edge N u v) w u v * (slope N w (xval s) v * backward N w s v).
Proof.
rewrite {1}/backward [LHS]/=; congr (_ + _); rewrite sumvE.
rewrite big_seq_cond [RHS]big_seq_cond; apply: eq_bigr => v /andP[us_v uv].
have lt_uv := dag.1 _ _ uv; congr (_ * (_ * _)); rewrite /backward -bwd_stable //.
by rewrite ltn_subrL (leq_ltn_trans (leq0n _) lt_uv) (leq_ltn_trans (leq0n _) (dag.2 _ us_v)).
Qed.

Lemma backward_unique w s d :
  (forall u, d u = (if out N u then seed s u else 0) +
     \sum_(v <- us | edge N u v) w u v * (slope N w (xval s) v * d v)) ->
  d =1 backward N w s.
Proof.
move=> dE u; have [m] := ubnP (steps N - rk u); elim: m u => // m IH u lt_um.
rewrite dE backwardE; congr (_ + _).
rewrite big_seq_cond [RHS]big_seq_cond; apply: eq_bigr => v /andP[us_v uv].
congr (_ * (_ * _)); apply: IH; apply: leq_trans (_ : (steps N - rk u <= m)%N) => //.
by rewrite ltn_sub2l // ?dag.1 // (ltn_trans (dag.1 _ _ uv)) ?dag.2.
Qed.
End Recursion.

(* weights off the edges between units play no part *)
Section Extensional.
Variables (R : ringType) (V : eqType) (N : net R V) (w w' : weights R V).
Notation us := (units N).
Hypothesis same : forall u v, u \in us -> v \in us -> edge N u v -> w u v = w' u v.

Lemma fwd_ext k x v : v \in us -> fwd N w k x v = fwd N w' k x v.
Proof.
elim: k v => // k IH v us_v /=; case: (inp N v) => //; congr (act N v _); rewrite !sumvE.
rewrite big_seq_cond [RHS]big_seq_cond; apply: eq_bigr => u /andP[us_u uv].
by rewrite (same us_u us_v uv) (IH _ us_u).
Qed.

Lemma preact_ext x v : v \in us -> preact N w x v = preact N w' x v.
Proof.
move=> us_v; rewrite /preact !sumvE big_seq_cond [RHS]big_seq_cond; apply: eq_bigr => u /andP[us_u uv].
by rewrite (same us_u us_v uv) /forward (fwd_ext _ _ us_u).
Qed.

Lemma slope_ext x v : v \in us -> slope N w x v = slope N w' x v.
Proof. by move=> us_v; rewrite /slope preact_ext. Qed.

Lemma bwd_ext k s u : u \in us -> bwd N w k s u = bwd N w' k s u.
Proof.
elim: k u => [//|k IH u us_u].
rewrite [LHS]/= [RHS]/= !sumvE [X in _ + X = _]big_seq_cond [X in _ = _ + X]big_seq_cond.
apply: (f_equal (fun x => _ + x)); apply: eq_bigr => v /andP[us_v uv].
by rewrite (same us_u us_v uv) (slope_ext _ us_v) (IH _ us_v).
Qed.

Lemma grad_ext b u v : u \in us -> v \in us -> grad N w b u v = grad N w' b u v.
Proof.
move=> us_u us_v; rewrite !gradE; apply: eq_bigr => s _.
by rewrite /forward (fwd_ext _ _ us_u) (slope_ext _ us_v) /backward (bwd_ext _ _ us_v).
Qed.
End Extensional.
