(* Frozen units (F1, F2a, F2b). *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Lop Require Import network equitable.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Frozen.
Variables (R : comRingType) (V : eqType) (N : net R V) (rk : V -> nat).
Hypothesis dag : acyclic_by N rk.
Notation W := (weights R V).
Implicit Types (w : W) (b : seq (sample R V)) (X : (V -> R) -> Prop).

(* v is saturated on every sample of the batch; z, h and delta may be anything else *)
Theorem F1 w b v : List.Forall (fun s => slope N w (xval s) v = 0) b ->
  forall u, grad N w b u v = 0.
Proof.
move=> sat u; rewrite gradE; elim: sat => [|s b' sv _ IH]; rewrite ?big_nil //.
by rewrite big_cons IH sv mul0r mulr0 addr0.
Qed.

(* (iii): along gradient descent, while v stays saturated on every batch that is used *)
Theorem F2a_persists eta (B : nat -> W -> seq (sample R V)) w0 v T :
  (forall t, (t < T)%N -> List.Forall (fun s => slope N (descent N eta B w0 t) (xval s) v = 0)
                                      (B t (descent N eta B w0 t))) ->
  forall u, descent N eta B w0 T u v = w0 u v.
Proof.
elim: T => // T IH sat u /=; rewrite (F1 (sat T (ltnSn T))) mulr0 subr0 IH // => t lt_t.
by apply: sat; apply: ltnW.
Qed.

(* A holds, with each unit, its ancestors that are no inputs *)
Definition closed_up (A : pred V) := forall u v, A v -> edge N u v -> ~~ inp N u -> A u.
Definition agree_into (A : pred V) w w0 := forall u v, A v -> edge N u v -> w u v = w0 u v.

Lemma F2a_forward (A : pred V) w w0 x : closed_up A -> agree_into A w w0 ->
  forall v, A v -> forward N w x v = forward N w0 x v.
Proof.
move=> clA agr v; have [d] := ubnP (rk v); elim: d v => // d IH v lt_vd Av.
rewrite !(forwardE dag); case: (inp N v) => //; congr (act N v _).
rewrite /preact !sumvE; apply: eq_bigr => u uv; rewrite (agr _ _ Av uv); congr (_ * _).
have [iu|niu] := boolP (inp N u); first by rewrite !(forwardE dag) iu.
by apply: IH (clA _ _ Av uv niu); apply: leq_trans (dag.1 _ _ uv) _.
Qed.

Lemma F2a_slope (A : pred V) w w0 x : closed_up A -> agree_into A w w0 ->
  forall v, A v -> slope N w x v = slope N w0 x v.
Proof.
move=> clA agr v Av; rewrite /slope; case: (inp N v) => //; congr (slp N v _).
rewrite /preact !sumvE; apply: eq_bigr => u uv; rewrite (agr _ _ Av uv); congr (_ * _).
have [iu|niu] := boolP (inp N u); first by rewrite !(forwardE dag) iu.
exact: F2a_forward (clA _ _ Av uv niu).
Qed.

(* (i) with A = F and (ii) with A = F and its ancestors *)
Theorem F2a_tangent (F A : pred V) X w w0 :
  (forall v, F v -> A v) -> closed_up A -> agree_into A w w0 ->
  (forall x v, X x -> F v -> slope N w0 x v = 0) ->
  forall b, List.Forall (fun s => X (xval s)) b -> forall u v, F v -> grad N w b u v = 0.
Proof.
move=> FA clA agr sat b bX u v Fv; apply: F1; elim: bX => [|s b' Xs _ IH]; constructor=> //.
by rewrite (F2a_slope _ clA agr (FA _ Fv)) sat.
Qed.

Theorem F2a_stays (F : pred V) X eta (B : nat -> W -> seq (sample R V)) w0 :
  closed_up F -> (forall x v, X x -> F v -> slope N w0 x v = 0) ->
  (forall t w, List.Forall (fun s => X (xval s)) (B t w)) ->
  forall w, agree_into F w w0 -> forall T, agree_into F (descent N eta B w T) w0.
Proof.
move=> clF sat BX w agr; elim=> //= T IH u v Fv uv.
by rewrite (F2a_tangent (fun v Fv => Fv) clF IH sat (BX _ _)) // mulr0 subr0 IH.
Qed.
End Frozen.

(* F2b: a ReLU unit with weights <= 0 on units >= 0 is dead for all data *)
Section Cone.
Variables (R : realDomainType) (V : eqType) (N : net R V) (rk : V -> nat).
Hypothesis dag : acyclic_by N rk.
(* X: the inputs that may come; every unit that feeds v is >= 0 for them, whatever the weights upstream *)
Variables (v : V) (X : (V -> R) -> Prop).
Hypothesis relu : forall z, act N v z = Num.max 0 z.
Hypothesis relu' : forall z, slp N v z = (0 < z)%R%:R.
Hypothesis hidden : ~~ inp N v.
Notation W := (weights R V).
Hypothesis feeds : forall (w : W) x u, X x -> edge N u v -> 0 <= forward N w x u.
Definition cone (w : W) := forall u, edge N u v -> w u v <= 0.

Theorem F2b_dead w x : cone w -> X x -> forward N w x v = 0 /\ slope N w x v = 0.
Proof.
move=> cw Xx; have z0 : preact N w x v <= 0.
  rewrite /preact sumvE -oppr_ge0 -sumrN; apply: sumr_ge0 => u uv.
  by rewrite oppr_ge0 mulr_le0_ge0 ?cw ?feeds.
rewrite (forwardE dag) /slope (negPf hidden) relu relu'; split; first exact/max_idPl.
by rewrite ltNge z0.
Qed.

(* every rule that, without gradient and from a state in Z, multiplies the weight by a number >= 0 *)
Theorem F2b_cone S (opt : nat -> R -> R -> S -> R * S) (Z : S -> Prop)
    (B : nat -> W -> seq (sample R V)) w0 s0 :
  (forall t w s, Z s -> Z (opt t w 0 s).2 /\ exists2 a, 0 <= a & (opt t w 0 s).1 = a * w) ->
  (forall t w, List.Forall (fun s => X (xval s)) (B t w)) ->
  cone w0 -> (forall u, edge N u v -> Z (s0 u v)) ->
  forall T, cone (train_own N opt B w0 s0 T).1.
Proof.
move=> rule BX cw0 Zs0 T.
suff [] : cone (train_own N opt B w0 s0 T).1 /\ (forall u, edge N u v -> Z ((train_own N opt B w0 s0 T).2 u v)) by [].
elim: T => [|T] //=; case: (train_own N opt B w0 s0 T) => w s /= [cw Zs].
have g0 u : grad N w (B T w) u v = 0.
  by apply: F1; elim: (BX T w) => [|a b Xa _ IH]; constructor=> //; case: (F2b_dead cw Xa).
split=> u uv; rewrite g0; have [Zu [a a_ge0 aE]] := rule T (w u v) _ (Zs u uv) => //.
by rewrite aE mulr_ge0_le0 ?cw.
Qed.
End Cone.
